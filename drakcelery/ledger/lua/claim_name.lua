-- Claim a host name for a machine, or renew the claim: a name belongs to one machine at a time. It does not run out by
-- itself, for nobody can renew it while Redis is away: who wants it says which renewal he has heard nothing after.
--
-- KEYS[1] drak:lease:<host>  hash, the machine that has the name; owner: a host's workers; expires long after the last
-- ARGV    key of the machine, role of the worker, TTL in s, for how many ms the claim holds, the renewal of another
--         machine that was followed by silence ('' for none), then field, value, … of what is told of the machine
-- returns nil, or the fields of the other machine that has the name
local lease = KEYS[1]
local holder = redis.call('HMGET', lease, 'key', 'renewed')
if holder[1] and holder[1] ~= ARGV[1] then
  if holder[2] ~= ARGV[5] then
    return redis.call('HGETALL', lease)
  end
  redis.call('DEL', lease)
end
local time = redis.call('TIME')
redis.call('HSET', lease, 'key', ARGV[1], 'renewed', string.format('%d.%06d', time[1], time[2]), 'lasts', ARGV[4],
  'role:' .. ARGV[2], 1, unpack(ARGV, 6))
redis.call('EXPIRE', lease, ARGV[3])
return nil

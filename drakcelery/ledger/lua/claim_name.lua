-- Claim a host name for a machine, or renew the claim: a name belongs to one machine at a time.
--
-- KEYS[1] drak:lease:<host>  hash, the machine that has the name; owner: a host's workers; expires
-- ARGV    key of the machine, role of the worker, for how many ms, then field, value, … of what is told of the machine
-- returns nil, or the fields of the other machine that has the name
local lease = KEYS[1]
local holder = redis.call('HGET', lease, 'key')
if holder and holder ~= ARGV[1] then
  return redis.call('HGETALL', lease)
end
local time = redis.call('TIME')
redis.call('HSET', lease, 'key', ARGV[1], 'renewed', string.format('%d.%06d', time[1], time[2]),
  'role:' .. ARGV[2], 1, unpack(ARGV, 4))
redis.call('PEXPIRE', lease, ARGV[3])
return nil

-- An item could not be dealt with: note why, and when it is tried again (1, 2, 4, … seconds).
--
-- KEYS[1] drak:quarantine                zset, '<where> <uid>' -> when to try again; owner: isolation; a member leaves
--         it when its item was dealt with or was removed, or its hash has expired
-- KEYS[2] drak:quarantine:<where>:<uid>  hash; owner: isolation; expires
-- ARGV    where, uid, error, longest delay in s, for how many s it stays when nobody tries it at its time
-- returns how often it could not
local time = redis.call('TIME')
local now = tonumber(string.format('%d.%06d', time[1], time[2]))
local count = redis.pcall('HINCRBY', KEYS[2], 'count', 1)
if type(count) ~= 'number' then -- somebody else has written it
  redis.call('DEL', KEYS[2])
  count = redis.call('HINCRBY', KEYS[2], 'count', 1)
end
redis.call('HSETNX', KEYS[2], 'first', string.format('%.6f', now))
redis.call('HSET', KEYS[2], 'error', ARGV[3])
local delay = math.min(tonumber(ARGV[4]), 2 ^ math.min(count - 1, 30))
redis.call('EXPIRE', KEYS[2], math.ceil(delay) + ARGV[5])
redis.call('ZADD', KEYS[1], string.format('%.6f', now + delay), ARGV[1] .. ' ' .. ARGV[2])
return count

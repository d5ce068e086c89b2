-- A stage cannot go on now (storage is away); it is sent again later, its workspace stays.
--
-- KEYS[1] drak:analysis:{uid}  hash, the record
-- KEYS[2] drak:due             zset, analysis uid -> time at which to send; owner: ledger; emptied by due/cancel
-- ARGV    uid, attempt, token of the delivery, delay in s, patience in s
-- returns seconds since the first postponement of this stage, or nil where the attempt is stale. Where that is all the
--         patience there is, nothing is changed: the delivery has the stage still, to fail it
local record = KEYS[1]
local fields = redis.call('HMGET', record, 'attempt', 'busy', 'waiting')
if fields[1] ~= ARGV[2] or fields[2] ~= ARGV[3] then
  return nil
end
local time = redis.call('TIME')
local now = tonumber(time[1])
local waited = now - tonumber(fields[3] or now)
if waited >= tonumber(ARGV[5]) then
  return waited
end
redis.call('ZCARD', KEYS[2]) -- an error leaves everything as it is
redis.call('HDEL', record, 'busy', 'beat')
redis.call('HSETNX', record, 'waiting', now)
redis.call('HINCRBY', record, 'postponed', 1)
redis.call('HSET', record, 'updated', string.format('%d.%06d', time[1], time[2]))
redis.call('ZADD', KEYS[2], string.format('%.6f', now + tonumber(time[2]) / 1e6 + tonumber(ARGV[4])), ARGV[1])
return waited

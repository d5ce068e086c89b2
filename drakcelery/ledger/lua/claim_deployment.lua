-- Say that a deployment is at work on this Redis: there is one at a time, since its queues and hosts have no other name.
--
-- KEYS[1] drak:deployment  hash: identity, renewed; owner: ingress and workers; no TTL
-- KEYS[2] drak:live        zset; read
-- KEYS[3] drak:inbox       zset; read
-- KEYS[4] drak:waiting     set; read
-- KEYS[5] drak:aside       zset; read
-- ARGV    identity, after how many seconds without a sign nothing of another deployment is alive
-- returns nil, or {identity, seconds since its last sign, 0 where no sample of its is left} of the other deployment
local deployment = KEYS[1]
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
local fields = redis.call('HMGET', deployment, 'identity', 'renewed')
if fields[1] and fields[1] ~= ARGV[1] then
  local silent = tonumber(now) - (tonumber(fields[2] or '') or 0)
  local samples = redis.call('ZCARD', KEYS[2]) + redis.call('ZCARD', KEYS[3]) + redis.call('EXISTS', KEYS[4], KEYS[5])
  if silent < tonumber(ARGV[2]) or samples > 0 then
    return {fields[1], string.format('%.0f', silent), samples}
  end
end
redis.call('HSET', deployment, 'identity', ARGV[1], 'renewed', now)
return nil

-- Say that a deployment is at work on this Redis: there is one at a time, since its queues and hosts have no other name.
--
-- KEY deployment  identity, renewed
-- KEY live        read
-- KEY inbox       read
-- KEY waiting     read
-- KEY aside       read
-- KEY twins_waiting  read
-- ARG identity    of ours
-- ARG silence     after how many seconds without a sign nothing of another deployment is alive
-- returns nil, or {identity, seconds since its last sign, 0 where no sample of its is left} of the other deployment
local at = now()
local identity, renewed = unpack(redis.call('HMGET', KEY.deployment, 'identity', 'renewed'))
if identity and identity ~= ARG.identity then
  local silent = tonumber(at) - (tonumber(renewed or '') or 0)
  local samples = redis.call('ZCARD', KEY.live) + redis.call('ZCARD', KEY.inbox)
    + redis.call('EXISTS', KEY.waiting, KEY.aside, KEY.twins_waiting)
  if silent < tonumber(ARG.silence) or samples > 0 then
    return {identity, string.format('%.0f', silent), samples}
  end
end
redis.call('HSET', KEY.deployment, 'identity', ARG.identity, 'renewed', at)
return nil

-- A worker needs its host's name no more; the last worker of the machine gives it back.
--
-- KEY lease    the machine that has the name
-- ARG machine  key of the machine
-- ARG role     of the worker
if redis.call('HGET', KEY.lease, 'key') ~= ARG.machine then
  return
end
redis.call('HDEL', KEY.lease, 'role:' .. ARG.role)
for _, field in ipairs(redis.call('HKEYS', KEY.lease)) do
  if string.sub(field, 1, 5) == 'role:' then
    return
  end
end
redis.call('DEL', KEY.lease)

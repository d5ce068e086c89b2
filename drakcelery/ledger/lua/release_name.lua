-- A worker needs its host's name no more; the last worker of the machine gives it back.
--
-- KEYS[1] drak:lease:<host>  hash, the machine that has the name
-- ARGV    key of the machine, role of the worker
local lease = KEYS[1]
if redis.call('HGET', lease, 'key') ~= ARGV[1] then
  return
end
redis.call('HDEL', lease, 'role:' .. ARGV[2])
for _, field in ipairs(redis.call('HKEYS', lease)) do
  if string.sub(field, 1, 5) == 'role:' then
    return
  end
end
redis.call('DEL', lease)

-- Delete an analysis that is over: its record, and what finds it. Its line among the names is for erase.lua.
--
-- WITH index
-- KEY record   the record
-- KEY done     the analysis leaves it
-- ARG uid      of the analysis
-- ARG updated  when its record was updated last: if that is another time by now, it has begun again, and stays
-- returns the window of the index that it was in, '' if it was in none; nil if it stays
local fields = redis.call('HGETALL', KEY.record)
local state, updated, finished = unpack(redis.call('HMGET', KEY.record, 'state', 'updated', 'finished'))
if not is_over(state) or updated ~= ARG.updated then
  return nil
end
redis.call('DEL', KEY.record)
redis.pcall('ZREM', KEY.done, ARG.uid)
if not tonumber(finished) then
  return ''
end
local window = window_of(finished)
local is_known, _, _, keys, prefixes = pcall(entries, finished, fields)
if is_known then
  for _, key in ipairs(keys) do
    redis.pcall('ZREM', key, ARG.uid)
  end
  redis.pcall('ZREM', index_key('uids', window), unpack(prefixes))
end
return string.format('%d', window)

-- Enter analyses into the index that were over before there was one, or whose record was made again.
--
-- WITH index
-- ARG ttl     of the records, in s
-- ARG prefix  what stands before a uid in the key of its record
-- ARG suffix  and behind it
-- ARG uids*   of the analyses
-- returns how many were entered; those that are there already are not
local function is_entered(uid, state, finished)
  local key = string.format('%s:state:%s', index_key('of', window_of(finished)), state)
  return redis.call('ZSCORE', key, uid)
end

local entered = 0
for _, uid in ipairs(ARG.uids) do
  local key = ARG.prefix .. uid .. ARG.suffix
  local state, finished, own = unpack(redis.call('HMGET', key, 'state', 'finished', 'uid'))
  if is_over(state) and own == uid and tonumber(finished) and not is_entered(uid, state, finished) then
    enter_index(finished, redis.call('HGETALL', key), ARG.ttl)
    entered = entered + 1
  end
end
return entered

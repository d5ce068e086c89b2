-- An item could not be dealt with: note why, and when it is tried again (1, 2, 4, … seconds).
--
-- KEY quarantine  '<where> <uid>' -> when to try again; a member leaves it when its item was dealt with or was removed,
--                 or its entry has expired
-- KEY entry       what is known of the item; expires
-- ARG where       which loop
-- ARG uid         of the item
-- ARG error       what happened
-- ARG most        longest delay in s
-- ARG memory      for how many s it stays when nobody tries it at its time
-- returns how often it could not
local at = now()
local count = redis.pcall('HINCRBY', KEY.entry, 'count', 1)
if type(count) ~= 'number' then -- somebody else has written it
  redis.call('DEL', KEY.entry)
  count = redis.call('HINCRBY', KEY.entry, 'count', 1)
end
redis.call('HSETNX', KEY.entry, 'first', at)
redis.call('HSET', KEY.entry, 'error', ARG.error)
local delay = math.min(tonumber(ARG.most), 2 ^ math.min(count - 1, 30))
redis.call('EXPIRE', KEY.entry, math.ceil(delay) + ARG.memory)
redis.call('ZADD', KEY.quarantine, later(at, delay), ARG.where .. ' ' .. ARG.uid)
return count

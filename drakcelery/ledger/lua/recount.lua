-- Count the live analyses of each place again. Each script keeps the count; this puts right what an older version, or
-- somebody else, has made of it: a count that is too high would keep samples out forever.
--
-- KEY live      read
-- KEY inflight  place -> number of live analyses
-- KEY twins     conditions -> uid; what is not live, as a version that knows nothing of them leaves it, goes
-- ARG prefix    what stands before a uid in the key of its record
-- ARG suffix    and behind it
-- returns the number of places whose count was wrong
local counts = {}
for _, uid in ipairs(redis.call('ZRANGE', KEY.live, 0, -1)) do
  local place = redis.pcall('HGET', ARG.prefix .. uid .. ARG.suffix, 'place')
  if type(place) == 'string' then
    counts[place] = (counts[place] or 0) + 1
  end
end
local wrong = 0
if redis.call('TYPE', KEY.inflight)['ok'] == 'hash' then
  for _, place in ipairs(redis.call('HKEYS', KEY.inflight)) do
    if not counts[place] then
      redis.call('HDEL', KEY.inflight, place)
      wrong = wrong + 1
    end
  end
else
  redis.call('DEL', KEY.inflight)
end
for place, count in pairs(counts) do
  if redis.call('HGET', KEY.inflight, place) ~= tostring(count) then
    redis.call('HSET', KEY.inflight, place, count)
    wrong = wrong + 1
  end
end
local twins = redis.pcall('HGETALL', KEY.twins)
for i = 1, #twins, 2 do -- of what is no hash this is an error, which has no length
  if not redis.call('ZSCORE', KEY.live, twins[i + 1]) then
    redis.call('HDEL', KEY.twins, twins[i])
  end
end
return wrong

-- Count the live analyses of each place anew. Each script keeps the count; this puts right what an older version, or
-- somebody else, has made of it: a count that is too high would keep samples out for ever.
--
-- KEYS[1] drak:live      zset of the uids of analyses that are not over; read
-- KEYS[2] drak:inflight  hash, place -> number of live analyses; owner: ledger
-- ARGV    what stands before and behind a uid in the key of its record
-- returns the number of places whose count was wrong
local counts = {}
for _, uid in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local place = redis.pcall('HGET', ARGV[1] .. uid .. ARGV[2], 'place')
  if type(place) == 'string' then
    counts[place] = (counts[place] or 0) + 1
  end
end
local wrong = 0
if redis.call('TYPE', KEYS[2])['ok'] == 'hash' then
  for _, place in ipairs(redis.call('HKEYS', KEYS[2])) do
    if not counts[place] then
      redis.call('HDEL', KEYS[2], place)
      wrong = wrong + 1
    end
  end
else
  redis.call('DEL', KEYS[2])
end
for place, count in pairs(counts) do
  if redis.call('HGET', KEYS[2], place) ~= tostring(count) then
    redis.call('HSET', KEYS[2], place, count)
    wrong = wrong + 1
  end
end
return wrong

-- Note that a server was heard just now; since when that has been so without a break is for whoever judges by silence.
--
-- KEYS[1] drak:watch       hash: since and last (times), run_id and role of the server
-- KEYS[2] drak:watch:gaps  zset, '<from> <to>' -> to: the stretches in which nobody watched
-- ARGV    longest pause between two notes in s, run id and role ('' where they are not known), seconds for which
--         all of it is remembered, most gaps
-- returns the time, since when the watch is uninterrupted, and the gaps, oldest first
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
local old = redis.call('HMGET', KEYS[1], 'since', 'last', 'run_id', 'role')
local since, last = old[1], tonumber(old[2] or '')
local pause = last and tonumber(now) - last
local same = true
for place = 2, 3 do
  local before = old[place + 1] or ''
  same = same and (before == '' or ARGV[place] == '' or before == ARGV[place])
end
local begun = tonumber(since or '')
if not (begun and begun <= tonumber(now) and pause and pause >= 0 and pause <= tonumber(ARGV[1]) and same) then
  since = now
  if not pause or pause > 0 then
    redis.call('ZADD', KEYS[2], now, (old[2] or '0') .. ' ' .. now)
  end
end
redis.call('HSET', KEYS[1], 'since', since, 'last', now)
for place, name in pairs({[2] = 'run_id', [3] = 'role'}) do
  if ARGV[place] ~= '' then
    redis.call('HSET', KEYS[1], name, ARGV[place])
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', tonumber(now) - tonumber(ARGV[4]))
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - tonumber(ARGV[5]))
for place = 1, 2 do
  redis.call('EXPIRE', KEYS[place], ARGV[4])
end
return {now, since, unpack(redis.call('ZRANGE', KEYS[2], 0, -1))}

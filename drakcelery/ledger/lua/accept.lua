-- Take the most urgent tasks that wait: off the lines of places that have room, or off Karton's queues. Atomic: a
-- task is on a Karton queue, in a line or in the inbox, at any instant (I1).
--
-- KEYS[1]   drak:inbox             zset, task uid -> time taken; owner: ingress; no TTL, emptied by open/refuse/wait
-- KEYS[2]   drak:waiting           set of places that have a line; owner: ingress; no TTL
-- KEYS[3]   drak:live              zset, analysis uid -> time received; read
-- KEYS[4..] Karton's queues of our identity, most urgent first (lists of task uids), then
--           drak:waiting:<place>   zsets, task uid -> urgency and age; those of places that have room
-- ARGV      how many analyses may be live or in the inbox, how many tasks to take at most, number of Karton's queues,
--           score of one step of urgency, then for each line how many tasks its place takes
-- returns   task uids, the most urgent first; none where there is no room or no task
local inbox, waiting = KEYS[1], KEYS[2]
local limit, most, queues, rank = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local room = math.min(most, limit - redis.call('ZCARD', inbox) - redis.call('ZCARD', KEYS[3]))
local now = redis.call('TIME')[1]

-- The heads of the lines, each read once and after its line was popped: there may be a line for each host
local lines = {}
for number = 1, #ARGV - 4 do
  lines[number] = {key = KEYS[3 + queues + number], room = tonumber(ARGV[4 + number])}
end
local function look(line)
  line.score = nil
  if line.room > 0 then
    line.score = tonumber(redis.call('ZRANGE', line.key, 0, 0, 'WITHSCORES')[2])
  end
end

local function first_in_line(urgency)
  local best
  for _, line in ipairs(lines) do
    if line.score and line.score < (urgency + 1) * rank and (not best or line.score < best.score) then
      best = line
    end
  end
  if not best then
    return nil
  end
  local task = redis.call('ZPOPMIN', best.key)[1]
  if redis.call('EXISTS', best.key) == 0 then
    redis.call('SREM', waiting, string.sub(best.key, #waiting + 2))
  end
  best.room = best.room - 1
  look(best)
  return task
end

local taken = {}
if room > 0 then
  for _, line in ipairs(lines) do
    look(line)
  end
end
for urgency = 0, queues - 1 do
  while #taken < room do
    -- What is in line has waited for longer than what is on the queue
    local task = first_in_line(urgency) or redis.call('LPOP', KEYS[4 + urgency])
    if not task then
      break
    end
    redis.call('ZADD', inbox, now, task)
    taken[#taken + 1] = task
  end
end
return taken

-- Take the most urgent tasks that wait: off the lines of places that have room, or off Karton's queues. Atomic: a
-- task is on a Karton queue, in a line or in the inbox, at any instant (I1).
--
-- KEY inbox    task uid -> time taken; emptied by open/refuse/wait
-- KEY waiting  places that have a line
-- KEY live     read
-- KEY sources* Karton's queues of our identity, most urgent first (lists of task uids), then the lines of places that
--              have room (task uid -> urgency and age)
-- ARG limit    how many analyses may be live or in the inbox
-- ARG most     how many tasks to take at most
-- ARG queues   number of Karton's queues
-- ARG rank     score of one step of urgency
-- ARG capacity*   for each line how many tasks its place takes
-- returns task uids, the most urgent first; none where there is no room or no task
local limit, most, queues, rank = tonumber(ARG.limit), tonumber(ARG.most), tonumber(ARG.queues), tonumber(ARG.rank)
local sources = KEY.sources
local room = math.min(most, limit - redis.call('ZCARD', KEY.inbox) - redis.call('ZCARD', KEY.live))
local at = second()

-- The heads of the lines, each read once and after its line was popped: there may be a line for each host
local lines = {}
for number, places in ipairs(ARG.capacity) do
  lines[number] = {key = sources[queues + number], room = tonumber(places)}
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
    redis.call('SREM', KEY.waiting, string.sub(best.key, #KEY.waiting + 2))
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
    local task = first_in_line(urgency) or redis.call('LPOP', sources[1 + urgency])
    if not task then
      break
    end
    redis.call('ZADD', KEY.inbox, at, task)
    taken[#taken + 1] = task
  end
end
return taken

-- Take the most urgent task that waits: off a line of a place that has room, or off Karton's queues. Atomic: a
-- task is on a Karton queue, in a line or in the inbox, at any instant (I1).
--
-- KEYS[1]   drak:inbox             zset, task uid -> time taken; owner: ingress; no TTL, emptied by open/refuse/wait
-- KEYS[2]   drak:waiting           set of places that have a line; owner: ingress; no TTL
-- KEYS[3..] Karton's queues of our identity, most urgent first (lists of task uids), then
--           drak:waiting:<place>   zsets, task uid -> urgency and age; those of places that have room
-- ARGV      how many tasks the inbox may hold, number of Karton's queues, score of one step of urgency
-- returns   task uid, or nil where there is no room or no task
local inbox, waiting = KEYS[1], KEYS[2]
local queues, rank = tonumber(ARGV[2]), tonumber(ARGV[3])
if redis.call('ZCARD', inbox) >= tonumber(ARGV[1]) then
  return nil
end
local now = redis.call('TIME')[1]

local function first_in_line(urgency)
  local best, line
  for i = 3 + queues, #KEYS do
    local head = redis.call('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')
    local score = tonumber(head[2])
    if score and score < (urgency + 1) * rank and (not best or score < best) then
      best, line = score, KEYS[i]
    end
  end
  if not line then
    return nil
  end
  local task = redis.call('ZPOPMIN', line)[1]
  if redis.call('EXISTS', line) == 0 then
    redis.call('SREM', waiting, string.sub(line, #waiting + 2))
  end
  return task
end

for urgency = 0, queues - 1 do
  -- What is in line has waited for longer than what is on the queue
  local task = first_in_line(urgency) or redis.call('LPOP', KEYS[3 + urgency])
  if task then
    redis.call('ZADD', inbox, now, task)
    return task
  end
end
return nil

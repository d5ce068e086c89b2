-- Go on with a copy, or end it.
--
-- KEY inbox   the task counts as dealt with now
-- KEY making  the Karton task and the mark of its try
-- ARG task    Karton's uid
-- ARG mark    of this try
-- ARG ttl     in s; 0 to end it
-- returns 1; 0 where the task, or the uid, is somebody else's by now
if redis.call('GET', KEY.making) ~= ARG.task .. ' ' .. ARG.mark then
  return 0
end
if ARG.ttl == '0' then
  redis.call('DEL', KEY.making)
  return 1
end
if not redis.call('ZSCORE', KEY.inbox, ARG.task) then
  return 0
end
redis.call('ZADD', KEY.inbox, 'XX', second(), ARG.task)
redis.call('EXPIRE', KEY.making, ARG.ttl)
return 1

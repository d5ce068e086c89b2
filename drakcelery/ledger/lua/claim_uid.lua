-- Let a task of the inbox alone copy an earlier analysis to a uid, until it has ended that, or has shown no life for long.
--
-- KEY inbox   read
-- KEY live    read
-- KEY making  the Karton task and the mark of its try
-- ARG uid     of the analysis
-- ARG task    Karton's uid
-- ARG mark    of this try; an earlier one of the same task ends, since it is of an ingress that counts as dead
-- ARG ttl     in s
-- returns 1; 0 where the task has left the inbox; 2 where an analysis, or a copy, is under way under the uid
if not redis.call('ZSCORE', KEY.inbox, ARG.task) then
  return 0
end
local known = redis.pcall('GET', KEY.making) -- of another type it is nobody's
local owner = type(known) == 'string' and string.match(known, '^(.*) %S+$')
if redis.call('ZSCORE', KEY.live, ARG.uid) or (owner and owner ~= ARG.task) then
  return 2
end
redis.call('SET', KEY.making, ARG.task .. ' ' .. ARG.mark)
redis.call('EXPIRE', KEY.making, ARG.ttl)
return 1

-- A notice was sent, or is tried again later, or is given up. Once only, however many believe to have it.
--
-- KEY notices        the notice leaves it, and comes back changed where it is tried again
-- KEY notice_counts  sent, failed tries, given up
-- KEY notices_dead   newest first: what was given up; expires a week after the last
-- ARG notice         as it was claimed
-- ARG what           became of it: sent, retried, given_up
-- ARG following      what it is from now on (JSON)
-- ARG delay          in s
-- returns 1, or 0 where somebody else has settled it
if redis.call('ZREM', KEY.notices, ARG.notice) == 0 then
  return 0
end
redis.pcall('HINCRBY', KEY.notice_counts, ARG.what, 1)
if ARG.what == 'retried' then
  redis.call('ZADD', KEY.notices, later(second(), ARG.delay), ARG.following)
  redis.call('EXPIRE', KEY.notices, 7 * 24 * 3600)
elseif ARG.what == 'given_up' then
  redis.pcall('LPUSH', KEY.notices_dead, ARG.following)
  redis.pcall('LTRIM', KEY.notices_dead, 0, 99)
  redis.call('EXPIRE', KEY.notices_dead, 7 * 24 * 3600)
end
return 1

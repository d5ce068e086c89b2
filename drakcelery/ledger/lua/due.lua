-- Take one analysis whose time to be sent has come.
--
-- KEY due  analysis uid -> time at which to send
-- returns uid, or nil
local uids = redis.call('ZRANGEBYSCORE', KEY.due, '-inf', now(), 'LIMIT', 0, 1)
if uids[1] then
  redis.call('ZREM', KEY.due, uids[1])
  return uids[1]
end
return nil

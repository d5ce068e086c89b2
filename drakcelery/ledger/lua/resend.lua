-- Claim the right to send a stage again whose message seems to be lost; one claimer at a time.
--
-- KEY record   the record
-- ARG attempt  the attempt
-- ARG done     stage that was done last ('' for none)
-- ARG updated  of the record, as the caller saw it
-- ARG beat     likewise ('' for none)
-- ARG stage    the stage that is sent again
-- returns how many deaths the stage has cost with this one, 0 where nobody was at work on it, or nil if something has
-- happened since
local attempt, done, updated, beat, busy = unpack(redis.call('HMGET', KEY.record, 'attempt', 'done', 'updated', 'beat',
  'busy'))
if attempt ~= ARG.attempt or (done or '') ~= ARG.done or updated ~= ARG.updated or (beat or '') ~= ARG.beat then
  return nil
end
local deaths = 0
if busy then
  deaths = redis.call('HINCRBY', KEY.record, 'deaths:' .. ARG.stage, 1)  -- whoever was at work fell silent (abandon.lua)
end
redis.call('HDEL', KEY.record, 'busy', 'beat')
redis.call('HSET', KEY.record, 'updated', now())
redis.call('HINCRBY', KEY.record, 'resends', 1)
return deaths

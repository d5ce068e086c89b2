-- Claim the right to send a stage again whose message seems to be lost; one claimer at a time.
--
-- KEYS[1] drak:analysis:{uid}  hash, the record
-- ARGV    attempt, stage that was done last ('' for none), 'updated' and 'beat' as the caller saw them ('' for none),
--         the stage that is sent again
-- returns {how often this stage was sent again, how many deaths the stage has cost with this one; 0 where nobody was at
-- work on it}, or nil where something has happened since
local record = KEYS[1]
local fields = redis.call('HMGET', record, 'attempt', 'done', 'updated', 'beat', 'busy')
if fields[1] ~= ARGV[1] or (fields[2] or '') ~= ARGV[2] or fields[3] ~= ARGV[3] or (fields[4] or '') ~= ARGV[4] then
  return nil
end
local time = redis.call('TIME')
local deaths = 0
if fields[5] then
  deaths = redis.call('HINCRBY', record, 'deaths:' .. ARGV[5], 1)  -- whoever was at work fell silent (abandon.lua)
end
redis.call('HDEL', record, 'busy', 'beat')
redis.call('HSET', record, 'updated', string.format('%d.%06d', time[1], time[2]))
return {redis.call('HINCRBY', record, 'resends', 1), deaths}

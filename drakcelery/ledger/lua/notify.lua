-- Queue a notice for the webhook: an analysis has just ended. This file is put before publish, fail, cancel and
-- refuse, so that the notice is queued in the script that ended it, or not at all. Nothing is queued unless an
-- ingress with a webhook has said that it wants such.
--
-- KEYS[1..] the script's own, and behind them three:
--           drak:notices:wanted  set of states; owner: ingress; expires a day after the last ingress said so
--           drak:notices         zset, notice (JSON) -> time at which to send; emptied by claim_notice/settle_notice
--           drak:notices:counts  hash; owner: ingress; what became of notices
--
-- An end is told to Karton and to the record, whatever became of the books: `pcall` is for what is counted, listed
-- or queued beside that. An error in the middle of a script takes back nothing of what it has done.
local NOTICES_WANTED, NOTICES, NOTICE_COUNTS = KEYS[#KEYS - 2], KEYS[#KEYS - 1], KEYS[#KEYS]
local MOST_NOTICES = 5000
local NOTICE_MEMORY = 7 * 24 * 3600

-- One live analysis less at its place. A count that is none is put right by recount.lua
local function leave(inflight, place)
  local left = place and redis.pcall('HINCRBY', inflight, place, -1)
  if type(left) == 'number' and left <= 0 then
    redis.call('HDEL', inflight, place)
  end
end

-- fields: the record as HGETALL gives it. They are kept as they are, for another life of the uid may begin any time
local function notify(fields)
  local record = {}
  for i = 1, #fields, 2 do
    record[fields[i]] = fields[i + 1]
  end
  -- pcall: the analysis is over, and an ACL of before there were notices must not make it look otherwise
  if redis.pcall('SISMEMBER', NOTICES_WANTED, record['state']) ~= 1 then
    return
  end
  local queued = redis.pcall('ZCARD', NOTICES)
  if type(queued) ~= 'number' then
    return
  end
  if queued >= MOST_NOTICES then
    redis.pcall('HINCRBY', NOTICE_COUNTS, 'dropped', 1)
    return
  end
  local time = redis.call('TIME')
  redis.call('ZADD', NOTICES, string.format('%d.%06d', time[1], time[2]), cjson.encode({tries = 0, fields = record}))
  redis.call('EXPIRE', NOTICES, NOTICE_MEMORY)
end


-- Queue a notice for the webhook: an analysis has just ended. This stands before publish, fail, cancel and refuse, so
-- that the notice is queued in the script that ended it, or not at all. Nothing is queued unless an ingress with a
-- webhook has said that it wants such.
--
-- KEY notices_wanted  set of states
-- KEY notices         notice (JSON) -> time at which to send; emptied by claim_notice/settle_notice
-- KEY notice_counts   what became of notices
-- KEY task            Karton's; written only if it is still there
--
-- An end is told to Karton and to the record, whatever became of the books: `pcall` is for what is counted, listed
-- or queued beside that. An error in the middle of a script takes back nothing of what it has done.
local MOST_NOTICES = 5000
local NOTICE_MEMORY = 7 * 24 * 3600

-- text: the task from now on (JSON), or '' to leave it alone
local function tell_karton(text)
  if text ~= '' and redis.call('EXISTS', KEY.task) == 1 then
    redis.call('SET', KEY.task, text)
  end
end

-- fields: the record as HGETALL gives it. They are kept as they are, for another life of the uid may begin any time
local function notify(at, fields)
  local record = {}
  for i = 1, #fields, 2 do
    record[fields[i]] = fields[i + 1]
  end
  -- pcall: the analysis is over, and an ACL of before there were notices must not make it look otherwise
  if redis.pcall('SISMEMBER', KEY.notices_wanted, record['state']) ~= 1 then
    return
  end
  local queued = redis.pcall('ZCARD', KEY.notices)
  if type(queued) ~= 'number' then
    return
  end
  if queued >= MOST_NOTICES then
    redis.pcall('HINCRBY', KEY.notice_counts, 'dropped', 1)
    return
  end
  redis.call('ZADD', KEY.notices, at, cjson.encode({tries = 0, fields = record}))
  redis.call('EXPIRE', KEY.notices, NOTICE_MEMORY)
end


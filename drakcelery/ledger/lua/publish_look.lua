-- Publish an analysis where there are second looks: the time that its slot took is counted, the second look that it calls
-- for is granted or declined, and a granted one is on our own queue, all in the same instant.
--
-- WITH publishing
-- KEY variants       those of the root, by uid: what each is a second look at, and the seconds set apart for it; expires
-- KEY slot_time      of all first looks, and of all second ones; both fade
-- KEY first_record   of what this one is a second look at; its own if it is none
-- KEY variant_task   Karton's, of the second look that is asked for
-- KEY variant_queue  Karton's, of ours, for what is least urgent
-- ARG seconds        that the slot was taken
-- ARG first          what this one is a second look at, or ''
-- ARG news           how many things it shows that the first one did not, or ''
-- ARG wanted         the second look that is asked for (JSON), or '': its uid; task_uid, Karton's; spawned, its SPAWNED
--                    task (JSON); most, how many its root may have; share, seconds of second looks for each of first ones, at
--                    most; stretch, how many times as long as a first one it may take; longest, seconds that it takes at most
-- ARG uid            of the analysis
-- ARG ttl            of the record
-- returns {record, what became of the second look: granted, root, share, or '' where none is asked for}, or 0 where the
--         attempt is stale or the analysis is over
--
-- pcall where it is about second looks: the analysis itself must end as it would without them.
local HALF_LIFE = 24 * 3600
local MEMORY = 30 * 24 * 3600

local function number(value)
  local found = tonumber(value) or 0
  return found == found and math.max(0, found) or 0
end

-- Seconds of first looks, how many these were, seconds of second looks; each as much as is left of it by now. None of a
-- key that is no hash, which could not count what is granted
local function slot_time(at)
  local known = redis.pcall('HMGET', KEY.slot_time, 'at', 'first', 'looks', 'second')
  if known.err then
    return
  end
  local before, first, looks, second = unpack(known)
  local left = 0.5 ^ (math.max(0, at - (tonumber(before) or at)) / HALF_LIFE)
  return number(first) * left, number(looks) * left, number(second) * left
end

-- What a granted second look is a look at, and the seconds that were set apart for it
local function granted(uid)
  local known = redis.pcall('HGET', KEY.variants, uid)
  return string.match(type(known) == 'string' and known or '', '^(%S+) (%S+)$')
end

-- Note in the record of the first look what its second one has shown
local function tell_first()
  local known = redis.pcall('HGET', KEY.first_record, 'variants')
  if type(known) ~= 'string' then
    return
  end
  local found = {}
  for link in string.gmatch(known, '%S+') do
    found[#found + 1] = string.match(link, '^[^=]+') == ARG.uid and ARG.uid .. '=' .. ARG.news or link
  end
  redis.pcall('HSET', KEY.first_record, 'variants', table.concat(found, ' '))
end

if not may_publish() then
  return 0
end
local at = tonumber(now())
local first, looks, second = slot_time(at)
local verdict, expected, wanted = '', 0, ARG.wanted ~= '' and cjson.decode(ARG.wanted)
if not first then
  return {publish(), wanted and 'share' or ''}
end
-- It is what was granted, whatever is said: an older ingress knows of no second looks, and the first one may be deleted
local of, set_apart = granted(ARG.uid)
if of then
  second = math.max(0, second + number(ARG.seconds) - number(set_apart))
  redis.pcall('HSET', KEY.variants, ARG.uid, of .. ' 0')
  if of == ARG.first then
    tell_first()
  end
elseif ARG.first == '' then
  first, looks = first + number(ARG.seconds), looks + 1
end
if wanted and ARG.first == '' and not of then
  expected = math.min(wanted.longest, first / looks * wanted.stretch)
  local had, queued = redis.pcall('HLEN', KEY.variants), redis.pcall('LLEN', KEY.variant_queue)
  if type(had) ~= 'number' or type(queued) ~= 'number' or had >= wanted.most then
    verdict = 'root'
  elseif second + expected > wanted.share * first then
    verdict = 'share'
  else
    verdict, second = 'granted', second + expected
  end
end
redis.pcall('HSET', KEY.slot_time, 'at', string.format('%.3f', at), 'first', string.format('%.3f', first),
  'looks', string.format('%.6f', looks), 'second', string.format('%.3f', second))
redis.pcall('EXPIRE', KEY.slot_time, MEMORY)
if verdict ~= 'granted' then
  return {publish(), verdict}
end
local fields = publish('variants', wanted.uid)
redis.call('HSET', KEY.variants, wanted.uid, string.format('%s %.3f', ARG.uid, expected))
redis.call('EXPIRE', KEY.variants, ARG.ttl)
redis.call('SET', KEY.variant_task, wanted.spawned)
redis.call('RPUSH', KEY.variant_queue, wanted.task_uid)
return {fields, verdict}

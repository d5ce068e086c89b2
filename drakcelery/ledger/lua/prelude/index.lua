-- Enter an analysis that is over into the index by which people find it (docs/decisions/finding.md). The keys of each
-- window of time expire with its records, so that nothing has to be taken out of them.
--
-- KEY index  window -> its number; also what stands before the names of a window's keys
--
-- pcall, everywhere: the analysis is over, and no trouble with the index must make it look otherwise.
local WINDOW = 6 * 3600
local HASH_DIGITS = 16
local LATEST = 9999999999 -- a time counts down from it, so that the newest of one sample stands first
local MOST_NAME = 1024
local MOST_REASON = 400

local function window_of(at)
  return math.floor(tonumber(at) / WINDOW)
end

local function index_key(part, window)
  return string.format('%s:%s:%d', KEY.index, part, window)
end

local function read_json(text)
  local is_read, value = pcall(cjson.decode, text or '')
  return is_read and type(value) == 'table' and value or {}
end

-- What is searched for a part: in small letters (those of ASCII), on one line
local function searched(text, most)
  if type(text) ~= 'string' then
    return ''
  end
  return (string.gsub(string.lower(string.sub(text, 1, most)), '%c', ' '))
end

-- A uid with bytes that no letter of a search has, so that it is found in no text
local function veiled(uid, by)
  return (string.gsub(uid, '.', function(one)
    return string.char((string.byte(one) + by) % 256)
  end))
end

-- Why it ended as it did, as `Record.reason` has it
local function reason_of(record)
  if record['refusal'] then
    return record['refusal']
  end
  local failures = read_json(record['failures'])
  local last = failures[#failures]
  if record['state'] ~= 'PUBLISHED' and type(last) == 'table' then
    return last['error']
  end
  return read_json(record['result'])['reason']
end

-- fields: the record as HGETALL gives it. Returns it, its sample, the keys of its values, and what it is found by
local function entries(at, fields)
  local record = {}
  for i = 1, #fields, 2 do
    record[fields[i]] = fields[i + 1]
  end
  local uid, window = record['uid'], window_of(at)
  local sample = read_json(record['analysis'])['sample'] or read_json(record['refused_sample'])
  sample = type(sample) == 'table' and sample or {}
  local engine = read_json(record['result'])['engine']
  local values = {
    state = record['state'],
    host = record['host'],
    profile = string.match(record['place'] or '', '^[^@]+'),
    engine = type(engine) == 'string' and string.match(engine, '^[%w._-]+') or nil,
  }
  local keys, prefixes = {}, {'u:' .. uid}
  for field, value in pairs(values) do
    keys[#keys + 1] = string.format('%s:%s:%s', index_key('of', window), field, string.sub(value, 1, 64))
  end
  if type(sample['sha256']) == 'string' then
    local digits = string.lower(string.sub(sample['sha256'], 1, HASH_DIGITS))
    prefixes[#prefixes + 1] = string.format('s:%s:%010d:%s', digits, LATEST - tonumber(at), uid)
  end
  for _, name in ipairs({'task_uid', 'root_uid'}) do
    local own = string.sub(string.match(record[name] or '', '([^:}]*)}?$'), 1, 128)
    if own ~= '' and own ~= uid then
      prefixes[#prefixes + 1] = 'k:' .. own .. ':' .. uid
    end
  end
  return record, sample, keys, prefixes
end

-- ttl: of the record, in s
local function enter(at, fields, ttl)
  local record, sample, keys, prefixes = entries(at, fields)
  local uid, window = record['uid'], window_of(at)
  for _, key in ipairs(keys) do
    redis.pcall('ZADD', key, at, uid)
    redis.pcall('EXPIRE', key, ttl)
  end
  for _, prefix in ipairs(prefixes) do
    redis.pcall('ZADD', index_key('uids', window), 0, prefix)
  end
  redis.pcall('EXPIRE', index_key('uids', window), ttl)
  local line = {veiled(uid, 128), searched(sample['name'], MOST_NAME), searched(reason_of(record), MOST_REASON)}
  redis.pcall('APPEND', index_key('text', window), '\n' .. table.concat(line, '\t'))
  redis.pcall('EXPIRE', index_key('text', window), ttl)
  redis.pcall('ZADD', KEY.index, window, window)
  redis.pcall('EXPIRE', KEY.index, ttl)
end

local function enter_index(at, fields, ttl)
  pcall(enter, at, fields, ttl)
end

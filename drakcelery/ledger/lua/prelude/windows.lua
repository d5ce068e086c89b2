-- The windows of the index that a search goes through (see index.lua).
--
-- KEY index   window -> its number
local SPAN = 6 * 3600

-- Those between two times
local function windows(least, most, is_newest_first)
  local from, to = math.floor(tonumber(least) / SPAN), math.floor(tonumber(most) / SPAN)
  if is_newest_first then
    return redis.call('ZREVRANGEBYSCORE', KEY.index, to, from)
  end
  return redis.call('ZRANGEBYSCORE', KEY.index, from, to)
end

local function part_key(part, window)
  return string.format('%s:%s:%d', KEY.index, part, window)
end

local function value_keys(window, filters)
  local keys = {}
  for i, filter in ipairs(filters) do
    keys[i] = part_key('of', window) .. ':' .. filter
  end
  return keys
end

local function is_in_all(keys, uid, except)
  for _, key in ipairs(keys) do
    if key ~= except and not redis.call('ZSCORE', key, uid) then
      return false
    end
  end
  return true
end

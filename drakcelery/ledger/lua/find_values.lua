-- Analyses that are over and have the values wanted, in the order in which they ended: some of them at a time.
--
-- WITH windows
-- KEY done      read
-- ARG newest    '1' where the newest come first
-- ARG least     the time that is searched: from,
-- ARG most      and to
-- ARG after     go on behind this uid, which stands where the search begins; '' for all
-- ARG limit     how many are looked at at most
-- ARG enough    after how many found it stops
-- ARG filters*  what is wanted: field:value
-- returns 1 if there may be more, the last one looked at and its time, then uid and time of each
local PIECE = 200
local filters, is_newest = ARG.filters, ARG.newest == '1'
local start = is_newest and ARG.most or ARG.least
local looked, answer = 0, {0, '', ''}

local function piece(key, offset)
  if is_newest then
    return redis.call('ZREVRANGEBYSCORE', key, ARG.most, ARG.least, 'WITHSCORES', 'LIMIT', offset, PIECE)
  end
  return redis.call('ZRANGEBYSCORE', key, ARG.least, ARG.most, 'WITHSCORES', 'LIMIT', offset, PIECE)
end

-- Whether it was given before: those of one time stand in the order of their uids
local function is_behind(uid, time)
  if ARG.after == '' or tonumber(time) ~= tonumber(start) then
    return true
  end
  return is_newest and uid < ARG.after or not is_newest and uid > ARG.after
end

-- Returns whether it had to stop
local function scan(base, keys)
  local offset, some = 0
  repeat
    some = piece(base, offset)
    for i = 1, #some, 2 do
      local uid, time = some[i], some[i + 1]
      if is_behind(uid, time) then
        if looked >= tonumber(ARG.limit) or #answer >= 3 + 2 * tonumber(ARG.enough) then
          return true
        end
        looked, answer[2], answer[3] = looked + 1, uid, time
        if is_in_all(keys, uid, base) then
          answer[#answer + 1], answer[#answer + 2] = uid, time
        end
      end
    end
    offset = offset + PIECE
  until #some < 2 * PIECE
  return false
end

if #filters == 0 then
  answer[1] = scan(KEY.done, {}) and 1 or 0
  return answer
end
for _, window in ipairs(windows(ARG.least, ARG.most, is_newest)) do
  local keys, base, least = value_keys(window, filters), nil, math.huge
  for _, key in ipairs(keys) do
    local size = redis.call('ZCARD', key)
    if size < least then
      base, least = key, size
    end
  end
  if least > 0 and scan(base, keys) then
    answer[1] = 1
    break
  end
end
return answer

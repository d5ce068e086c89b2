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
-- returns 1 if there may be more, the last one looked at and its time ('' and a time where a window was passed over), then
-- uid and time of each
local PIECE = 200
local SOON = 5000 -- so many are compared in 2 ms
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

-- Whether no analysis is in all of the sets, as far as that is soon known. To look at each from here takes ten times as
-- long; pcall, since Redis has this command from 7.0 on, and older users may not have the right to it
local function share_nothing(keys, least)
  if least == 0 or #keys == 1 or least > SOON then
    return least == 0
  end
  local words = {#keys, unpack(keys)}
  words[#words + 1], words[#words + 2] = 'LIMIT', 1
  return redis.pcall('ZINTERCARD', unpack(words)) == 0
end

-- What lies behind a window in the order of the search, as a time; they have six decimals
local function behind(window)
  return string.format('%.6f', is_newest and window * SPAN - 0.000001 or (window + 1) * SPAN)
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
  if not share_nothing(keys, least) then
    if scan(base, keys) then
      answer[1] = 1
      break
    end
  elseif least > 0 then
    looked, answer[2], answer[3] = looked + least, '', behind(window)
    if looked >= tonumber(ARG.limit) then
      answer[1] = 1
      break
    end
  end
end
return answer

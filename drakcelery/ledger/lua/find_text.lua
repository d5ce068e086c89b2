-- Analyses that are over in whose name, or reason, a text stands: of some of the lines at a time.
--
-- WITH windows
-- ARG least     the time that is searched: from,
-- ARG most      and to
-- ARG name      what stands in the name, as index.lua has it; '' for any name
-- ARG reason    and in the reason
-- ARG window    go on in this window,
-- ARG place     at this place of its lines; -1 to begin
-- ARG limit     how many bytes are looked at
-- ARG enough    after how many found it stops
-- ARG filters*  what is wanted besides: field:value
-- returns 1 if there may be more, the window and the place to go on at, then window, place and uid of each
local PIECE = 65536
local USUAL, LONGEST = 200, 4096
local filters, left, answer, count = ARG.filters, tonumber(ARG.limit), {0, '', ''}, 0
local needle = #ARG.name > #ARG.reason and ARG.name or ARG.reason
if needle == '' then
  needle = '\t' -- each line has one
end

local function unveiled(uid)
  return (string.gsub(uid, '.', function(one)
    return string.char((string.byte(one) + 128) % 256)
  end))
end

-- The uid of a line that has what is wanted; nil if it has not
local function uid_in(line, keys)
  local uid, name, reason = string.match(line, '^([^\t]*)\t([^\t]*)\t(.*)$')
  if not uid or not string.find(name, ARG.name, 1, true) or not string.find(reason, ARG.reason, 1, true) then
    return nil
  end
  uid = unveiled(uid)
  return is_in_all(keys, uid) and uid or nil
end

-- Piece of a window's lines that ends before `stop`, where it begins, and where in it the first whole line does: to cut
-- off what stands before that would copy all the rest, which takes as long as to read it
local function piece_before(key, stop)
  local start = math.max(0, stop - PIECE)
  local piece = redis.call('GETRANGE', key, start, stop - 1)
  return piece, start, string.find(piece, '\n', 1, true)
end

-- Where the line of a place begins, if it does within so many bytes
local function line_before(piece, place, bytes)
  local back = math.max(1, place - bytes)
  local begin = string.match(string.sub(piece, back, place), '.*()\n')
  return begin and back - 1 + begin
end

-- The lines of a piece that hold the needle, with their places in it; the first begins at `first`, none if that is nil
local function hits(piece, first)
  local found, at = {}, first
  while at do
    local hit = string.find(piece, needle, at, true)
    if not hit then
      break
    end
    local begin = line_before(piece, hit, USUAL) or line_before(piece, hit, LONGEST) or first
    local stop = string.find(piece, '\n', hit, true) or #piece + 1
    found[#found + 1] = {begin, string.sub(piece, begin + 1, stop - 1)}
    at = stop + 1
  end
  return found
end

for _, window in ipairs(windows(ARG.least, ARG.most, true)) do
  local here = ARG.place ~= '-1' and tonumber(ARG.window)
  if not here or tonumber(window) <= here then
    local key, keys = part_key('text', window), value_keys(window, filters)
    local stop = here == tonumber(window) and tonumber(ARG.place) or redis.call('STRLEN', key)
    while stop > 0 do
      if left <= 0 or count >= tonumber(ARG.enough) then
        answer[1], answer[2], answer[3] = 1, window, tostring(stop)
        return answer
      end
      local piece, start, first = piece_before(key, stop)
      local found = hits(piece, first)
      for i = #found, 1, -1 do
        local begin, line = found[i][1], found[i][2]
        if count >= tonumber(ARG.enough) then
          answer[1], answer[2], answer[3] = 1, window, tostring(start + begin + #line)
          return answer
        end
        local uid = uid_in(line, keys)
        if uid then
          count = count + 1
          answer[#answer + 1], answer[#answer + 2] = window, tostring(start + begin - 1)
          answer[#answer + 1] = uid
        end
      end
      left, stop = left - PIECE, start + (first or 1) - 1
    end
  end
end
return answer

-- Take analyses out of the lines in which names and reasons are looked for, a part of a window's at a time. Their lines
-- become empty ones, so that all others stay where they are.
--
-- WITH index
-- ARG window  the window
-- ARG place   where to go on; 0 to begin
-- ARG limit   how many bytes are looked at: more than any line has
-- ARG uids*   of the analyses
-- returns where to go on; -1 if that is all
local key, start, limit = index_key('text', ARG.window), tonumber(ARG.place), tonumber(ARG.limit)
local gone = {}
for _, uid in ipairs(ARG.uids) do
  gone[veiled(uid, 128)] = true
end
local piece = redis.call('GETRANGE', key, start, start + limit - 1)
local stop = #piece + 1
if #piece == limit then
  local last = string.match(piece, '.*()\n') or 1
  stop = last > 1 and last or stop -- the last line may go on behind the piece
end
for begin, uid, behind in string.gmatch(piece, '()\n([^\t\n]+)\t[^\n]*()') do
  if begin < stop and gone[uid] then
    redis.call('SETRANGE', key, start + begin - 1, string.rep('\n', behind - begin))
  end
end
return #piece == limit and start + stop - 1 or -1

-- Analyses that are over whose uid, hash or Karton uid begins so: some of them at a time.
--
-- WITH windows
-- ARG least     the time that is searched: from,
-- ARG most      and to
-- ARG prefix    u:… for uids, s:… for hashes, k:… for uids in Karton
-- ARG window    go on in this window,
-- ARG after     behind this entry; '' to begin
-- ARG limit     how many are looked at
-- ARG filters*  what is wanted besides: field:value
-- returns 1 if there may be more, the last window and entry looked at, then window, entry and uid of each
local filters, left, answer = ARG.filters, tonumber(ARG.limit), {0, '', ''}
local here = ARG.after ~= '' and tonumber(ARG.window)

for _, window in ipairs(windows(ARG.least, ARG.most, true)) do
  local number = tonumber(window)
  if not here or number <= here then
    local from = here == number and '(' .. ARG.after or '[' .. ARG.prefix
    local some = redis.call('ZRANGEBYLEX', part_key('uids', window), from, '(' .. ARG.prefix .. '\255', 'LIMIT', 0, left)
    local keys = value_keys(window, filters)
    for _, entry in ipairs(some) do
      local uid = string.match(entry, '([^:]*)$')
      answer[2], answer[3] = window, entry
      if is_in_all(keys, uid) then
        answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = window, entry, uid
      end
    end
    left = left - #some
    if left <= 0 then
      answer[1] = 1
      break
    end
  end
end
return answer

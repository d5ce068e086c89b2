-- Change a field of a record, of an analysis whose retry, or whose repeated analysis, was deleted.
--
-- KEY record  the record
-- ARG field   the field
-- ARG before  what it was when it was read: otherwise nothing is done
-- ARG after   what it is from now on
-- returns 1 if that is done
if redis.call('HGET', KEY.record, ARG.field) ~= ARG.before then
  return 0
end
redis.call('HSET', KEY.record, ARG.field, ARG.after)
return 1

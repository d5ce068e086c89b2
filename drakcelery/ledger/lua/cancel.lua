-- End a live analysis because somebody no longer wants it. Whatever works on it notices by itself.
--
-- WITH ending
-- KEY record   the record
-- KEY live     read
-- ARG uid      of the analysis
-- ARG reason   why it ends
-- ARG crashed  CRASHED task (JSON) or '' to leave Karton's task alone
-- returns 1, or 0 where the analysis is not live
redis.call('HGET', KEY.record, 'place') -- before anything changes: it may be no hash
if not redis.call('ZSCORE', KEY.live, ARG.uid) then
  return 0
end
end_analysis(now(), 'CANCELLED', ARG.crashed, 'refusal', ARG.reason)
return 1

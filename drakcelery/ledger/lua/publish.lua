-- Publish an analysis.
--
-- WITH publishing
-- returns the record, or 0 where the attempt is stale or the analysis is over
if not may_publish() then
  return 0
end
return publish()

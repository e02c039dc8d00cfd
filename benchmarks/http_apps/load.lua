-- Sends the tokens of a file in turn; wrk's arguments after `--` are that file and a pause in ms
-- before every request. What was measured goes to stdout as one line of JSON.

local requests, turn = {}, 0

function init(arguments)
  for token in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("GET", "/", { Authorization = "Bearer " .. token })
  end
  local pause = tonumber(arguments[2])
  if pause > 0 then
    delay = function() return pause end
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"answers": %d, "microseconds": %d, "refused": %d, "broken": %d, "p50": %d, "p99": %d, "longest": %d}\n',
    summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
end

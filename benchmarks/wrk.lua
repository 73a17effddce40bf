-- The load generator's part: the same bodies as the clients send, made before the clock starts.
-- usage: wrk ... -s wrk.lua URL -- FILE_WITH_ONE_BODY_A_LINE

local requests, at = {}, 0

function init(arguments)
  for body in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("POST", "/api/v1/events/batch", {["Content-Type"] = "application/json"}, body)
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency, all)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
  print(string.format('RESULT {"requests":%d,"seconds":%.6f,"failed":%d}',
    summary.requests, summary.duration / 1e6, failed))
end

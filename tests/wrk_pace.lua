-- For wrk: each connection waits so many milliseconds before a request.
function delay()
   return 20
end

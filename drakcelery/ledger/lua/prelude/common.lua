-- What stands before every script. Time is Redis' own, so a host's wrong clock changes nothing.

-- The time, in seconds and whole ones, as text
local function now()
  local time = redis.call('TIME')
  return string.format('%d.%06d', time[1], time[2])
end
local function second()
  return redis.call('TIME')[1]
end

-- The time so many seconds later, as text
local function later(at, seconds)
  return string.format('%.6f', tonumber(at) + seconds)
end

local function is_over(state)
  return state == 'PUBLISHED' or state == 'FAILED' or state == 'CANCELLED'
end

-- What stands behind all else in KEYS or ARGV; a script names it with a star
local function rest(given, first)
  local found = {}
  for place = first, #given do
    found[place - first + 1] = given[place]
  end
  return found
end


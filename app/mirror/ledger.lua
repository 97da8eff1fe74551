-- The ledger of one budget. Its promises and their reasons are in budget.py, the numbers of `rules` in ledger.py.
--
-- KEYS[1]  one hash, so that FLUSHALL, eviction and expiry remove all of it. Half a ledger would forget reserved
--          GETs and grant too many.
--   limit window remaining   as the upstream said; until a new window begins, remaining only falls
--   since                    when this window was first seen
--   heard                    when the upstream last said what remains
--   landed                   when remaining last fell, or a counted GET came back
--   guessed                  how many GETs were taken as counted although the upstream did not say so
--   blocked                  until when the upstream wants no counted GET (429)
--   planned planned_till     how many GETs are reserved for plans, and until when
--   f:ID      until                          a GET in flight
--   h:ID      {till, count, client, image}  GETs held for the rest of an image
--   c:CLIENT  {asked, spent}                 when a client last asked, and how many GETs it got in this window
-- ARGV[1] the operation, ARGV[2] its arguments, ARGV[3] the rules; returns JSON.

local key, ask, rules = KEYS[1], cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
local now = ask.now
if not now then
  -- The server's clock, because the hosts' clocks may differ. Rounded down to four digits, as many as cjson writes.
  local time = redis.call('TIME')
  now = tonumber(time[1]) + math.floor(tonumber(time[2]) / 100) / 10000
end

local ledger, flights, holds, clients = {}, {}, {}, {}
local fields = redis.call('HGETALL', key)
for i = 1, #fields, 2 do
  local kind, id = string.match(fields[i], '^(%l):(.*)$')
  if kind == 'f' then flights[id] = tonumber(fields[i + 1])
  elseif kind == 'h' then holds[id] = cjson.decode(fields[i + 1])
  elseif kind == 'c' then clients[id] = cjson.decode(fields[i + 1])
  else ledger[fields[i]] = tonumber(fields[i + 1]) end
end

local function set(field, value)
  ledger[field] = value
  redis.call('HSET', key, field, string.format('%.14g', value))
end

local function land(id, at)
  flights[id] = nil
  redis.call('HDEL', key, 'f:' .. id)
  set('landed', math.max(ledger.landed or 0, at))
end

local function keep_hold(id, hold)
  holds[id] = hold.count > 0 and hold or nil
  if holds[id] then redis.call('HSET', key, 'h:' .. id, cjson.encode(hold)) else redis.call('HDEL', key, 'h:' .. id) end
end

local function keep_client(id, client)
  clients[id] = client
  redis.call('HSET', key, 'c:' .. id, cjson.encode(client))
end

local function guess()
  if ledger.remaining then
    set('remaining', math.max(0, ledger.remaining - 1))
    set('guessed', (ledger.guessed or 0) + 1)
  end
end

-- A GET without an answer is taken as counted. A hold that nobody used is released.
local function sweep()
  for id, till in pairs(flights) do
    if till <= now then land(id, till) guess() end
  end
  for id, hold in pairs(holds) do
    if hold.till <= now then hold.count = 0 keep_hold(id, hold) end
  end
  for id, client in pairs(clients) do
    if client.spent == 0 and client.asked + rules.active <= now then
      clients[id] = nil
      redis.call('HDEL', key, 'c:' .. id)
    end
  end
end

local function flying()
  local n = 0
  for _ in pairs(flights) do n = n + 1 end
  return n
end

local function held(client)
  local n = 0
  for _, hold in pairs(holds) do
    if not client or hold.client == client then n = n + hold.count end
  end
  return n
end

local function had(client)
  return (clients[client] and clients[client].spent or 0) + held(client)
end

-- GETs that only plans may spend. Their worker says again and again how many; after its death they are for everybody.
local function planned()
  return (ledger.planned_till or 0) > now and ledger.planned or 0
end

local function begin_window()
  set('since', now)
  for id, client in pairs(clients) do
    client.spent = 0
    keep_client(id, client)
  end
end

-- Take in the limit that the upstream stated in answer to a request sent at `sent`; return whether it was taken in.
-- A higher number of remaining pulls is believed only if the request was sent after every earlier GET had landed.
-- Only `seeding` begins a ledger; it is done while no GET of this host is in flight.
local function learn(rate, sent, seeding)
  local after = sent > (ledger.landed or 0)
  local quiet = sent >= (ledger.landed or 0) + rules.quiet
  if not ledger.remaining then
    if not (seeding and after) then return false end
    begin_window()
    set('remaining', rate.remaining)
    set('guessed', 0)
  else
    local over = sent >= ledger.since + ledger.window
    if (over and after) or (quiet and rate.remaining > ledger.remaining) then
      if over or rate.remaining > ledger.remaining + (ledger.guessed or 0) then begin_window() end
      set('remaining', rate.remaining)
      set('guessed', 0)
    elseif rate.remaining < ledger.remaining then
      set('remaining', rate.remaining)
      set('landed', now)
    end
  end
  set('limit', rate.limit)
  set('window', rate.window)
  set('heard', now)
  return true
end

-- Return whether `client` may have `need` more, and its share. It may have up to an equal share of all pulls between
-- the clients that asked lately, or more as long as none of them has had less.
local function fair(client, need)
  local pool, rivals, least = ledger.remaining - flying() - held() - planned(), 0, nil
  for id, other in pairs(clients) do
    if other.asked + rules.active > now then
      pool, rivals = pool + had(id), rivals + 1
      if id ~= client then least = math.min(least or had(id), had(id)) end
    end
  end
  local share = math.floor(pool / rivals)
  return least == nil or had(client) + need <= share or had(client) <= least, share
end

local function spend()
  if ask.by and now > ask.by then return {verdict = 'late'} end
  -- Plans are no client that competes: what they get is reserved for them.
  local me = not ask.planned and (clients[ask.client] or {asked = now, spent = 0})
  if me then
    me.asked = now
    keep_client(ask.client, me)
  end
  if ledger.blocked and ledger.blocked > now then return {verdict = 'blocked'} end
  if not ledger.remaining or now >= ledger.since + ledger.window then return {verdict = 'stale'} end

  local left, own = ledger.remaining - flying(), nil
  if me and ask.also_hold == 0 then
    for id, hold in pairs(holds) do
      if hold.image == ask.image then own = id end
    end
  end
  if not own then left = left - held() end
  local near, known = left <= rules.near, rules.known
  local answer = {verdict = 'granted'}
  if me and not own then left = left - planned() end
  if left < 1 + ask.also_hold then answer.verdict = 'spent'
  elseif not me then
    if planned() < 1 then answer.verdict = 'share' end
  elseif not own then
    local may
    may, answer.share = fair(ask.client, 1 + ask.also_hold)
    if not may then answer.verdict = 'share' end
  end
  if answer.verdict ~= 'granted' then
    -- A hold may lapse, and a GET in flight may turn out not to be counted.
    answer.waiting, known = not own and held() + flying() > 0, rules.known_to_deny
  elseif near and flying() > 0 then
    return {verdict = 'busy', waiting = true, promised = own ~= nil}
  elseif near then known = rules.known_near
  end
  if now - ledger.heard > known then return {verdict = 'stale'} end
  if answer.verdict ~= 'granted' then return answer end

  flights[ask.id] = now + rules.flight
  redis.call('HSET', key, 'f:' .. ask.id, flights[ask.id])
  if not me then
    set('planned', planned() - 1)
    return answer
  elseif own then
    holds[own].count = holds[own].count - 1
    keep_hold(own, holds[own])
  else
    keep_hold(ask.id, {till = now + rules.hold, count = ask.also_hold, client = ask.client, image = ask.image})
  end
  me.spent = me.spent + 1
  keep_client(ask.client, me)
  return answer
end

-- Record the answer to a counted GET, or that none came. A higher number in it is not believed: see `learn`.
local function settle()
  local reserved = flights[ask.id] ~= nil
  land(ask.id, now)
  if ask.rate and ledger.remaining then learn(ask.rate, 0, false)
  elseif reserved then guess() end
end

local answer = {}
sweep()
if ARGV[1] == 'spend' then answer = spend()
elseif ARGV[1] == 'settle' then settle()
elseif ARGV[1] == 'observe' then learn(ask.rate, math.min(ask.sent, now), false)
elseif ARGV[1] == 'seed' then answer.seeded = learn(ask.rate, ask.sent, true)
elseif ARGV[1] == 'forget' then
  flights[ask.id] = nil
  redis.call('HDEL', key, 'f:' .. ask.id)
elseif ARGV[1] == 'reserve' then
  set('planned', ask.count)
  set('planned_till', now + ask.seconds)
elseif ARGV[1] == 'block' then set('blocked', math.max(ledger.blocked or 0, now + ask.seconds))
end
if ask.drop and holds[ask.drop] then keep_hold(ask.drop, {count = 0}) end
redis.call('EXPIRE', key, math.ceil((ledger.window or 0) + rules.keep))

answer.now = now
answer.planned = planned()
answer.reserved, answer.had = flying() + held(), ask.client and had(ask.client) or 0
for _, field in ipairs({'limit', 'window', 'remaining', 'since', 'heard', 'blocked'}) do answer[field] = ledger[field] end
if ARGV[1] == 'view' then
  answer.clients = {}
  for id in pairs(clients) do answer.clients[id] = had(id) end
end
return cjson.encode(answer)

-- NDR and PDR of a router between Pktgen's ports 0 and 1 by binary search (RFC 2544, RFC 9004), UDP sessions from
-- 10.0.0.0/16 to 10.1.0.0/16 and their answers. docs/benchmarks.md has the commands; Pktgen-DPDK 22.07 or newer.

package.path = package.path .. ";?.lua;scripts/?.lua"
require "Pktgen"

-- Who is asked: weft takes any address that is not the sender's.
local ROUTER = "00:00:5e:00:01:00"
local SIZES = { 64, 512, 1518 }
local GOALS = { { name = "NDR", loss = 0.00001 }, { name = "PDR", loss = 0.005 } }
local TRIAL = 2000 -- ms
local SETTLE = 500 -- ms, for what is still on its way
local WIDTH = 0.25 -- percent of the line rate

local function range(port, source, destination, source_port, destination_port)
    local function set(what, first, step, last)
        pktgen.range[what](port, "start", first)
        pktgen.range[what](port, "inc", step)
        pktgen.range[what](port, "min", first)
        pktgen.range[what](port, "max", last)
    end
    pktgen.range.dst_mac(port, "start", ROUTER)
    set("src_ip", source .. ".0.2", "0.0.0.1", source .. ".0.101")
    set("dst_ip", destination .. ".0.2", "0.0.0.1", destination .. ".0.101")
    -- One port steps, the other stays: answers mirror what is asked.
    set("src_port", source_port.first, source_port.step, source_port.last)
    set("dst_port", destination_port.first, destination_port.step, destination_port.last)
    pktgen.range.ip_proto(port, "udp")
end

local function size(bytes)
    for _, port in ipairs({ "0", "1" }) do
        pktgen.range.pkt_size(port, "start", bytes)
        pktgen.range.pkt_size(port, "inc", 0)
        pktgen.range.pkt_size(port, "min", bytes)
        pktgen.range.pkt_size(port, "max", bytes)
    end
end

-- Sends at a percentage of the line rate: the part of the packets that did not come back, and packets a second.
local function trial(percent)
    pktgen.clr()
    pktgen.set("all", "rate", percent)
    pktgen.start("all")
    pktgen.delay(TRIAL)
    pktgen.stop("all")
    pktgen.delay(SETTLE)
    local ports = pktgen.portStats("all", "port")
    local sent = ports[0].opackets + ports[1].opackets
    local received = ports[0].ipackets + ports[1].ipackets
    return (sent - received) / math.max(sent, 1), sent * 1000 / TRIAL
end

-- The highest percentage that passes in two of three trials, and its packets a second.
local function search(loss)
    local low, high, rate = 0, 100, 0
    local percent = 100
    while high - low > WIDTH do
        local good, bad, sent = 0, 0, 0
        while good < 2 and bad < 2 do
            local lost, packets = trial(percent)
            if lost <= loss then good, sent = good + 1, packets else bad = bad + 1 end
        end
        if good == 2 then low, rate = percent, sent else high = percent end
        if low == 100 then break end
        percent = (low + high) / 2
    end
    return low, rate
end

pktgen.screen("off")
pktgen.set("all", "count", 0)
range("0", "10.0", "10.1", { first = 1024, step = 1, last = 1123 }, { first = 2000, step = 0, last = 2000 })
range("1", "10.1", "10.0", { first = 2000, step = 0, last = 2000 }, { first = 1024, step = 1, last = 1123 })
pktgen.set_range("all", "on")

local results = io.open("weft-pktgen.txt", "w")
for _, bytes in ipairs(SIZES) do
    size(bytes)
    for _, goal in ipairs(GOALS) do
        local percent, rate = search(goal.loss)
        local line = string.format("%4d bytes  %s  %6.2f %%  %8.3f Mpps both ways\n", bytes, goal.name, percent, rate / 1e6)
        io.write(line)
        results:write(line)
        results:flush()
    end
end
results:close()
pktgen.quit()

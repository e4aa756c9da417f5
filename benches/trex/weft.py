"""TRex stateless profile: UDP sessions through a router between ports 0 and 1, with their answers.

Tunables: size=64|imix, sessions=N (a multiple of 100), latency=1 for a paced stream with time stamps on top.
Loaded by TRex 3.0 or newer; docs/benchmarks.md has the commands.
"""

import argparse

from trex_stl_lib.api import (
    Ether,
    IP,
    STLFlowLatencyStats,
    STLPktBuilder,
    STLStream,
    STLTXCont,
    STLVM,
    UDP,
)

ROUTER = "00:00:5e:00:01:00"
CLIENTS, SERVERS = "10.0.0.2", "10.1.0.2"
FIRST_PORT, SERVICE = 1024, 2000
# Bytes with the FCS, packets a second of 12, and when the first goes, microseconds.
IMIX = [(64, 7, 0), (594, 4, 10), (1518, 1, 20)]


class Weft:
    def get_streams(self, direction, tunables, **_kwargs):
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--size", default="64")
        parser.add_argument("--sessions", type=int, default=10000)
        parser.add_argument("--latency", type=int, default=0)
        options = parser.parse_args(tunables)
        mix = IMIX if options.size == "imix" else [(int(options.size), 1, 0)]
        streams = [
            STLStream(
                packet=self.packet(direction, size, options.sessions),
                mode=STLTXCont(pps=share),
                isg=start,
            )
            for size, share, start in mix
        ]
        if options.latency:
            streams.append(
                STLStream(
                    packet=self.packet(direction, 64, 1),
                    mode=STLTXCont(pps=1000),
                    flow_stats=STLFlowLatencyStats(pg_id=10 + direction),
                )
            )
        return streams

    def packet(self, direction, size, sessions):
        """One direction's packets: client c of 100 has port 1024 + p for session (c, p)."""
        client, server = ("src", "dst") if direction == 0 else ("dst", "src")
        ports = {"src": FIRST_PORT, "dst": SERVICE} if direction == 0 else {"src": SERVICE, "dst": FIRST_PORT}
        base = (
            Ether(dst=ROUTER)
            / IP(**{client: CLIENTS, server: SERVERS})
            / UDP(sport=ports["src"], dport=ports["dst"], chksum=0)
        )
        # 4 bytes are the FCS, which the port adds.
        padding = b"x" * max(0, size - 4 - len(base))
        machine = STLVM()
        clients = min(100, sessions)
        machine.tuple_var(
            name="client",
            ip_min=CLIENTS,
            ip_max=f"10.0.0.{1 + clients}",
            port_min=FIRST_PORT,
            port_max=FIRST_PORT + max(1, sessions // clients) - 1,
        )
        machine.write(fv_name="client.ip", pkt_offset=f"IP.{client}")
        machine.write(fv_name="client.port", pkt_offset="UDP.sport" if direction == 0 else "UDP.dport")
        machine.fix_chksum()
        return STLPktBuilder(pkt=base / padding, vm=machine)


def register():
    return Weft()

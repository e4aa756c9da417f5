/* The part of DPDK that weft calls. One header a line, so that a diff shows what came or went. */
#include <stddef.h>

#include <rte_bus.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_memory.h>
#include <rte_mempool.h>
#include <rte_memzone.h>
#include <rte_prefetch.h>
#include <rte_version.h>
#include <rte_vhost.h>

/* The tables that the benchmarks put beside weft's own. */
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_hash.h>
#include <rte_lpm.h>
#include <rte_lpm6.h>

/*
 * Flags that DPDK spells with a function-like macro (RTE_BIT64), which bindgen does not evaluate: the same names as
 * typed constants.
 */
static const uint64_t RTE_ETH_TX_OFFLOAD_IPV4_CKSUM_ = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t RTE_ETH_TX_OFFLOAD_UDP_CKSUM_ = RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
static const uint64_t RTE_ETH_TX_OFFLOAD_TCP_CKSUM_ = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
static const uint64_t RTE_ETH_TX_OFFLOAD_TCP_TSO_ = RTE_ETH_TX_OFFLOAD_TCP_TSO;
static const uint64_t RTE_ETH_TX_OFFLOAD_MULTI_SEGS_ = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint64_t RTE_ETH_RX_OFFLOAD_SCATTER_ = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t RTE_ETH_RSS_IPV4_ = RTE_ETH_RSS_IPV4;
static const uint64_t RTE_ETH_RSS_IPV6_ = RTE_ETH_RSS_IPV6;
static const uint64_t RTE_ETH_RSS_NONFRAG_IPV4_TCP_ = RTE_ETH_RSS_NONFRAG_IPV4_TCP;
static const uint64_t RTE_ETH_RSS_NONFRAG_IPV4_UDP_ = RTE_ETH_RSS_NONFRAG_IPV4_UDP;
static const uint64_t RTE_ETH_RSS_NONFRAG_IPV6_TCP_ = RTE_ETH_RSS_NONFRAG_IPV6_TCP;
static const uint64_t RTE_ETH_RSS_NONFRAG_IPV6_UDP_ = RTE_ETH_RSS_NONFRAG_IPV6_UDP;
static const unsigned int LCORE_ID_ANY_ = LCORE_ID_ANY;
static const int SOCKET_ID_ANY_ = SOCKET_ID_ANY;

/*
 * Where the members of an mbuf are. Since 24.03 some of them sit in unnamed unions, for which bindgen makes up names
 * that change from release to release; these do not.
 */
enum rte_mbuf_offset_ {
	RTE_MBUF_OFFSET_BUF_ADDR_ = offsetof(struct rte_mbuf, buf_addr),
	RTE_MBUF_OFFSET_DATA_OFF_ = offsetof(struct rte_mbuf, data_off),
	RTE_MBUF_OFFSET_REFCNT_ = offsetof(struct rte_mbuf, refcnt),
	RTE_MBUF_OFFSET_NB_SEGS_ = offsetof(struct rte_mbuf, nb_segs),
	RTE_MBUF_OFFSET_OL_FLAGS_ = offsetof(struct rte_mbuf, ol_flags),
	RTE_MBUF_OFFSET_PACKET_TYPE_ = offsetof(struct rte_mbuf, packet_type),
	RTE_MBUF_OFFSET_PKT_LEN_ = offsetof(struct rte_mbuf, pkt_len),
	RTE_MBUF_OFFSET_DATA_LEN_ = offsetof(struct rte_mbuf, data_len),
	RTE_MBUF_OFFSET_VLAN_TCI_ = offsetof(struct rte_mbuf, vlan_tci),
	RTE_MBUF_OFFSET_HASH_USR_ = offsetof(struct rte_mbuf, hash.usr),
	RTE_MBUF_OFFSET_BUF_LEN_ = offsetof(struct rte_mbuf, buf_len),
	RTE_MBUF_OFFSET_POOL_ = offsetof(struct rte_mbuf, pool),
	RTE_MBUF_OFFSET_NEXT_ = offsetof(struct rte_mbuf, next),
	RTE_MBUF_OFFSET_TX_OFFLOAD_ = offsetof(struct rte_mbuf, tx_offload),
};

/* rte_errno is a thread-local lvalue behind a macro. */
static inline int rte_errno_(void)
{
	return rte_errno;
}

/* `link_status` is a bit-field, and since 24.11 in an unnamed union: read here. */
static inline int rte_eth_link_is_up_(uint16_t port_id)
{
	struct rte_eth_link link;

	return rte_eth_link_get_nowait(port_id, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

//! smoke
use weft_tests::{frame::*, namespace::Namespace, vhost::*};
fn main() {
    let a = Namespace::silent("a");
    let b = Namespace::silent("b");
    a.join("u1", "02:00:00:00:aa:01", &b, "r1", "02:00:00:00:bb:01");
    let (wa, mut wb) = (a.wire("u1"), b.wire("r1"));
    let f = tagged(
        100,
        &Packet::udp("10.0.0.1:1000", "10.0.0.2:2000", b"hello")
            .frame(mac("02:00:00:00:bb:01"), mac("02:00:00:00:aa:01")),
    );
    wa.send(&f);
    wb.expect(&f);
    let f = arp_request(mac("02:00:00:00:aa:01"), "10.0.0.1", "10.0.0.2");
    wa.send(&f);
    wb.expect(&f);
    wb.expect_nothing();
    let mut args = std::env::args().skip(1);
    if let Some(dir) = args.next() {
        let l: Vec<_> = (1..=2)
            .map(|i| std::os::unix::net::UnixListener::bind(format!("{dir}/v{i}")).unwrap())
            .collect();
        let mut tp = std::process::Command::new("dpdk-testpmd")
            .args("--no-huge -m 256 --no-pci --file-prefix sm -l 0,1 --vdev".split(' '))
            .arg(format!("net_vhost0,iface={dir}/v1,client=1"))
            .arg("--vdev")
            .arg(format!("net_vhost1,iface={dir}/v2,client=1"))
            .args("-- --forward-mode=io --total-num-mbufs=4096 --auto-start".split(' '))
            .stdin(std::process::Stdio::piped())
            .stdout(std::fs::File::create(format!("{dir}/log")).unwrap())
            .spawn()
            .unwrap();
        let mut g: Vec<_> = l.iter().map(|l| FrontEnd::accept(l, PLAIN).unwrap()).collect();
        println!("connected {:x}", g[0].features);
        let f = Packet::udp("10.0.0.1:1000", "10.0.0.2:2000", &[9; 1400]).frame([2; 6], [2; 6]);
        while g[1].next(std::time::Duration::from_millis(300)).is_none() { g[0].send(&f); println!("again {} {}", g[0].used_index(1), g[1].used_index(0)) }
        for n in 0..200u8 {
            let f = Packet::udp("10.0.0.1:1000", "10.0.0.2:2000", &[n; 1400]).frame([2; 6], [2; 6]);
            g[0].send(&f);
            g[1].expect(&f);
            g[1].send(&f);
            g[0].expect(&f);
        }
        let _ = tp.kill();
    }
    println!("ok");
}

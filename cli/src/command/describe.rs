//! `weft describe`: everything about an object.

use weft_proto::v1::{self, object::Spec};

use super::get;
use crate::{
    args::{Resource, Target},
    client::Client,
    error::{CliError, ExitCode},
    kind::KindInfo,
    manifest,
    print::{
        Column, Table, nat, objects, policies, services,
        units::{bytes, exact},
    },
    terminal::Terminal,
};

pub(super) async fn run(
    client: &Client,
    target: &Target,
    names: &[String],
    terminal: &mut Terminal<'_>,
) -> Result<ExitCode, CliError> {
    let Resource::Kind(info) = target.resource else {
        return Err(CliError::Usage {
            message: "only objects can be described".to_owned(),
            help: "name a kind: weft describe port web-1; counters are listed by weft get".to_owned(),
        });
    };
    let names = get::names(target.name.as_ref(), names);
    let found = get::named(client, info, &names, None).await?;
    if found.is_empty() {
        terminal.line(&format!("no {}", info.plural))?;
    }
    let stats = match info.kind {
        v1::Kind::Port => {
            client
                .call(client.api().get_stats(v1::GetStatsRequest {}))
                .await?
        }
        _ => v1::GetStatsResponse::default(),
    };
    for (index, object) in found.iter().enumerate() {
        if index > 0 {
            terminal.line("")?;
        }
        general(info, object, terminal)?;
        match &object.spec {
            Some(Spec::Port(_)) => port(client, object, &stats, terminal).await?,
            Some(Spec::Vrf(_)) => vrf(client, object, terminal).await?,
            Some(Spec::FloatingIp(_)) => floating_ip(client, object, terminal).await?,
            Some(Spec::NatPool(spec)) => pool(client, object, spec, terminal).await?,
            Some(Spec::Service(spec)) => service(client, object, spec, terminal).await?,
            Some(Spec::Policy(spec)) => policy(client, object, spec, terminal).await?,
            _ => users(client, info, object, terminal).await?,
        }
    }
    Ok(ExitCode::Success)
}

fn general(info: &KindInfo, object: &v1::Object, terminal: &mut Terminal<'_>) -> Result<(), CliError> {
    terminal.line(&format!("Name:        {}", object.name))?;
    terminal.line(&format!("Kind:        {}", info.title))?;
    terminal.line(&format!("Owner:       {}", object.owner))?;
    terminal.line(&format!("Generation:  {}", object.generation))?;
    terminal.line(&format!("State:       {}", objects::state(object)))?;
    if let Some(status) = object.status.as_ref().filter(|status| !status.message.is_empty()) {
        terminal.line(&format!("             {}", status.message))?;
    }
    // The rules are a table of their own.
    if info.kind == v1::Kind::Policy {
        return Ok(());
    }
    let document = manifest::yaml_value(object)?;
    let spec = document
        .get("spec")
        .filter(|spec| spec.as_mapping().is_some_and(|spec| !spec.is_empty()));
    if let Some(spec) = spec {
        let text = serde_norway::to_string(spec).map_err(|error| CliError::Format(error.to_string()))?;
        terminal.line("Spec:")?;
        for line in text.lines() {
            terminal.line(&format!("  {line}"))?;
        }
    }
    Ok(())
}

async fn port(
    client: &Client,
    object: &v1::Object,
    stats: &v1::GetStatsResponse,
    terminal: &mut Terminal<'_>,
) -> Result<(), CliError> {
    let request = v1::CheckPortRequest {
        name: object.name.clone(),
    };
    let state = match client.call(client.api().check_port(request)).await {
        // A port that is not in the data plane has no device to speak of.
        Err(CliError::Status(status))
            if matches!(
                status.code(),
                tonic::Code::NotFound | tonic::Code::FailedPrecondition
            ) =>
        {
            None
        }
        answer => answer?.state,
    };
    if let Some(state) = state {
        terminal.line("Device:")?;
        terminal.line(&format!(
            "  Link:      {}",
            if state.link_up { "up" } else { "down" }
        ))?;
        terminal.line(&format!("  Number:    {}", state.id))?;
        terminal.line(&format!("  MAC:       {}", state.mac))?;
        terminal.line(&format!("  Queues:    {}", state.queues))?;
        terminal.line(&format!("  Says:      {}", state.device))?;
    }
    let Some(port) = stats.ports.iter().find(|port| port.name == object.name) else {
        return Ok(());
    };
    terminal.line("Counters:")?;
    terminal.line(&format!(
        "  Received:  {} packets, {}",
        exact(port.rx_packets),
        bytes(port.rx_bytes)
    ))?;
    terminal.line(&format!(
        "  Sent:      {} packets, {}",
        exact(port.tx_packets),
        bytes(port.tx_bytes)
    ))?;
    let lost = [
        ("missed", port.device_rx_missed),
        ("without a buffer", port.device_rx_no_buffer),
        ("received broken", port.device_rx_errors),
        ("not sent", port.device_tx_errors),
    ];
    let lost: Vec<String> = lost
        .iter()
        .filter(|(_, packets)| *packets > 0)
        .map(|(how, packets)| format!("{} {how}", exact(*packets)))
        .collect();
    let lost = if lost.is_empty() {
        "nothing".to_owned()
    } else {
        lost.join(", ")
    };
    terminal.line(&format!("  Lost by the device: {lost}"))?;
    let mut drops: Vec<&v1::DropCount> = port.drops.iter().filter(|drop| drop.packets > 0).collect();
    drops.sort_by(|a, b| b.packets.cmp(&a.packets).then_with(|| a.reason.cmp(&b.reason)));
    if drops.is_empty() {
        return terminal.line("Drops:       none");
    }
    terminal.line("Drops:")?;
    let mut table = Table::new([
        Column::Text("REASON"),
        Column::Number("PACKETS"),
        Column::Text("HELP"),
    ]);
    for drop in drops {
        table.row([drop.reason.clone(), exact(drop.packets), drop.help.clone()]);
    }
    for line in table.text().lines() {
        terminal.line(&format!("  {line}"))?;
    }
    Ok(())
}

/// A policy's rules with their hits, and the ports that have it.
async fn policy(
    client: &Client,
    object: &v1::Object,
    policy: &v1::Policy,
    terminal: &mut Terminal<'_>,
) -> Result<(), CliError> {
    let stats = get::policy_stats(client).await?;
    terminal.line("Rules:")?;
    print_below(&policies::rules(policy, stats.get(&object.name)), terminal)?;
    let request = v1::GetRequest {
        kind: v1::Kind::Port.into(),
        ..Default::default()
    };
    let ports = client.call(client.api().get(request)).await?.objects;
    let has = |port: &&v1::Object| match &port.spec {
        Some(Spec::Port(port)) => port.policies.contains(&object.name),
        _ => false,
    };
    let names: Vec<&str> = ports.iter().filter(has).map(|port| port.name.as_str()).collect();
    let mut table = Table::new([
        Column::Text("KIND"),
        Column::Number("COUNT"),
        Column::Text("NAMES"),
    ]);
    if !names.is_empty() {
        table.row(["ports".to_owned(), names.len().to_string(), some(&names)]);
    }
    terminal.line("Used by:")?;
    print_below(&table, terminal)
}

/// How many sessions a floating IP translated.
async fn floating_ip(
    client: &Client,
    object: &v1::Object,
    terminal: &mut Terminal<'_>,
) -> Result<(), CliError> {
    let stats = get::floating_ip_stats(client).await?;
    let Some(stats) = stats.get(&object.name) else {
        return Ok(());
    };
    terminal.line("Sessions:")?;
    terminal.line(&format!("  From inside:   {}", exact(stats.sessions_from_inside)))?;
    terminal.line(&format!(
        "  From outside:  {}",
        exact(stats.sessions_from_outside)
    ))
}

/// Who has which ports of a pool.
async fn pool(
    client: &Client,
    object: &v1::Object,
    pool: &v1::NatPool,
    terminal: &mut Terminal<'_>,
) -> Result<(), CliError> {
    let stats = get::pool_stats(client).await?;
    let Some(stats) = stats.get(&object.name) else {
        return Ok(());
    };
    terminal.line(&format!("Sessions:    {}", exact(stats.sessions)))?;
    terminal.line(&format!(
        "Blocks:      {} of {} held",
        exact(stats.held),
        exact(stats.blocks)
    ))?;
    print_below(&nat::blocks(&stats.holders, pool.block_size), terminal)
}

/// Who serves, and how many sessions each backend has.
async fn service(
    client: &Client,
    object: &v1::Object,
    service: &v1::Service,
    terminal: &mut Terminal<'_>,
) -> Result<(), CliError> {
    let stats = get::service_stats(client).await?;
    terminal.line("Backends:")?;
    print_below(&services::backends(service, stats.get(&object.name)), terminal)
}

/// What is in a VRF or leads to it.
async fn vrf(client: &Client, vrf: &v1::Object, terminal: &mut Terminal<'_>) -> Result<(), CliError> {
    let all = client
        .call(client.api().get(v1::GetRequest::default()))
        .await?
        .objects;
    terminal.line("Holds:")?;
    let mut table = Table::new([
        Column::Text("KIND"),
        Column::Number("COUNT"),
        Column::Text("NAMES"),
    ]);
    for info in crate::kind::KINDS
        .iter()
        .filter(|info| info.kind != v1::Kind::Vrf)
    {
        let names: Vec<&str> = all
            .iter()
            .filter(|object| KindInfo::of(object) == Some(info))
            .filter(|object| objects::vrf_of(object) == Some(&vrf.name))
            .map(|object| object.name.as_str())
            .collect();
        if !names.is_empty() {
            table.row([info.plural.to_owned(), names.len().to_string(), some(&names)]);
        }
    }
    print_below(&table, terminal)
}

/// Which routes and groups lead to a group or endpoint.
async fn users(
    client: &Client,
    info: &KindInfo,
    object: &v1::Object,
    terminal: &mut Terminal<'_>,
) -> Result<(), CliError> {
    if !matches!(info.kind, v1::Kind::NextHopGroup | v1::Kind::TunnelEndpoint) {
        return Ok(());
    }
    let all = client
        .call(client.api().get(v1::GetRequest::default()))
        .await?
        .objects;
    terminal.line("Used by:")?;
    let mut table = Table::new([
        Column::Text("KIND"),
        Column::Number("COUNT"),
        Column::Text("NAMES"),
    ]);
    for (kind, user) in [
        ("routes", v1::Kind::Route),
        ("next-hop-groups", v1::Kind::NextHopGroup),
    ] {
        let names: Vec<&str> = all
            .iter()
            .filter(|other| KindInfo::of(other).is_some_and(|info| info.kind == user))
            .filter(|other| leads_to(other, info.kind, &object.name))
            .map(|other| other.name.as_str())
            .collect();
        if !names.is_empty() {
            table.row([kind.to_owned(), names.len().to_string(), some(&names)]);
        }
    }
    print_below(&table, terminal)
}

fn leads_to(user: &v1::Object, kind: v1::Kind, name: &str) -> bool {
    use v1::next_hop::To;
    let hop = |hop: Option<&v1::NextHop>| match hop.and_then(|hop| hop.to.as_ref()) {
        Some(To::Group(group)) => kind == v1::Kind::NextHopGroup && group == name,
        Some(To::Tunnel(tunnel)) => kind == v1::Kind::TunnelEndpoint && tunnel.endpoint == name,
        _ => false,
    };
    match &user.spec {
        Some(Spec::Route(route)) => hop(route.next_hop.as_ref()),
        Some(Spec::NextHopGroup(group)) => group.members.iter().any(|member| hop(member.next_hop.as_ref())),
        _ => false,
    }
}

/// The first names of many.
fn some(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    let mut text = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text += &format!(", {} more", names.len() - SHOWN);
    }
    text
}

fn print_below(table: &Table, terminal: &mut Terminal<'_>) -> Result<(), CliError> {
    if table.is_empty() {
        return terminal.line("  nothing");
    }
    table
        .text()
        .lines()
        .try_for_each(|line| terminal.line(&format!("  {line}")))
}

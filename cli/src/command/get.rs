//! `weft get`: lists.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::task::JoinSet;
use weft_proto::v1::{self, object::Spec};

use super::stats;
use crate::{
    args::{GetArguments, OutputFormat, Resource},
    client::Client,
    error::{CliError, ExitCode},
    kind::{KINDS, KindInfo, path_of},
    manifest,
    print::{
        self, Column, Table, nat,
        objects::{self, PortRow},
        policies, services, units,
    },
    suggest,
    terminal::Terminal,
};

/// How long `--rates` measures.
const RATE_WINDOW: Duration = Duration::from_millis(250);
/// Ports asked about at the same time.
const CHECKS_AT_ONCE: usize = 32;

pub(super) async fn run(
    client: &Client,
    options: &GetArguments,
    terminal: &mut Terminal<'_>,
) -> Result<ExitCode, CliError> {
    match options.target.resource {
        Resource::Kind(info) => {
            let names = names(options.target.name.as_ref(), &options.names);
            let mut found = named(client, info, &names, options.owner.as_deref()).await?;
            keep_vrf(&mut found, options.vrf.as_deref());
            show_kind(client, info, found, options, terminal).await?;
        }
        Resource::All => all(client, options, terminal).await?,
        Resource::Owners => owners(client, options.format.output, terminal).await?,
        Resource::Flows => flows(client, options, terminal).await?,
        counted => stats::get(client, counted, options.format.output, terminal).await?,
    }
    Ok(ExitCode::Success)
}

/// Options that would be read over in silence are refused.
pub(super) fn check_options(options: &GetArguments) -> Result<(), CliError> {
    let refuse = |message: &str, help: &str| {
        Err(CliError::Usage {
            message: message.to_owned(),
            help: help.to_owned(),
        })
    };
    let resource = options.target.resource;
    let of_kind = matches!(resource, Resource::Kind(_));
    if (options.matching.is_some() || options.limit.is_some()) && resource != Resource::Flows {
        return refuse(
            "--match and --limit are for flows",
            "weft get flows --match dst=10.0.0.5",
        );
    }
    if options.vrf.is_some() && !of_kind && resource != Resource::Flows && resource != Resource::All {
        return refuse("--vrf is for objects and flows", "leave it out");
    }
    if options.owner.is_some() && !of_kind && resource != Resource::All {
        return refuse("--owner is for objects", "leave it out");
    }
    if !of_kind && (options.target.name.is_some() || !options.names.is_empty()) {
        return refuse("only objects have names", "leave the names out");
    }
    if options.rates && !matches!(resource, Resource::Kind(info) if info.kind == v1::Kind::Port) {
        return refuse("--rates is for ports", "weft get ports --rates, or weft top");
    }
    if options.format.output == OutputFormat::Name && !of_kind && resource != Resource::All {
        return refuse("-o name is for objects", "choose table, json or yaml");
    }
    Ok(())
}

/// The name in KIND/NAME and those that follow.
pub(super) fn names(first: Option<&String>, others: &[String]) -> Vec<String> {
    first.into_iter().chain(others).cloned().collect()
}

/// Objects of a kind by name, in the order of the names; all of them, by name, if none is given.
pub(super) async fn named(
    client: &Client,
    info: &'static KindInfo,
    names: &[String],
    owner: Option<&str>,
) -> Result<Vec<v1::Object>, CliError> {
    let fetch = |name: String| async move {
        let request = v1::GetRequest {
            kind: info.kind.into(),
            name,
            owner: owner.unwrap_or_default().to_owned(),
        };
        let answer = client.call(client.api().get(request)).await;
        match answer {
            Err(CliError::Status(status)) if status.code() == tonic::Code::NotFound => Ok(Vec::new()),
            answer => answer.map(|answer| answer.objects),
        }
    };
    let mut objects = match names {
        [name] => fetch(name.clone()).await?,
        _ => fetch(String::new()).await?,
    };
    if names.is_empty() {
        objects.sort_by(|a, b| a.name.cmp(&b.name));
        return Ok(objects);
    }
    let mut by_name: HashMap<String, v1::Object> = objects
        .into_iter()
        .map(|object| (object.name.clone(), object))
        .collect();
    let mut found = Vec::new();
    for name in names {
        match by_name.remove(name) {
            Some(object) => found.push(object),
            None => {
                let known = fetch(String::new()).await?;
                let similar = suggest::similar(name, known.iter().map(|object| object.name.as_str()));
                return Err(CliError::NotFound {
                    kind: info,
                    name: name.clone(),
                    similar: similar.filter(|similar| similar != name).map(str::to_owned),
                });
            }
        }
    }
    Ok(found)
}

fn keep_vrf(objects: &mut Vec<v1::Object>, vrf: Option<&str>) {
    if let Some(vrf) = vrf {
        objects.retain(|object| objects::vrf_of(object) == Some(vrf));
    }
}

async fn show_kind(
    client: &Client,
    info: &'static KindInfo,
    objects: Vec<v1::Object>,
    options: &GetArguments,
    terminal: &mut Terminal<'_>,
) -> Result<(), CliError> {
    match options.format.output {
        OutputFormat::Name => names_only(&objects, terminal),
        OutputFormat::Yaml => print::yaml_objects(terminal, &objects),
        OutputFormat::Json if info.kind == v1::Kind::Port => ports_as_json(client, &objects, terminal).await,
        OutputFormat::Json if info.kind == v1::Kind::Policy => {
            policies_as_json(client, &objects, terminal).await
        }
        OutputFormat::Json if info.kind == v1::Kind::FloatingIp => {
            floating_ips_as_json(client, &objects, terminal).await
        }
        OutputFormat::Json if info.kind == v1::Kind::NatPool => {
            pools_as_json(client, &objects, terminal).await
        }
        OutputFormat::Json if info.kind == v1::Kind::Service => {
            services_as_json(client, &objects, terminal).await
        }
        OutputFormat::Json => print::json(terminal, &serde_json::json!({ "objects": as_json(&objects)? })),
        OutputFormat::Table => print_table(client, info, objects, options.rates, terminal).await,
    }
}

fn names_only(objects: &[v1::Object], terminal: &mut Terminal<'_>) -> Result<(), CliError> {
    objects
        .iter()
        .try_for_each(|object| terminal.line(&path_of(object)))
}

pub(super) fn as_json(objects: &[v1::Object]) -> Result<Vec<serde_json::Value>, CliError> {
    objects
        .iter()
        .map(|object| manifest::to_json("Object", object, false))
        .collect()
}

async fn ports_as_json(
    client: &Client,
    objects: &[v1::Object],
    terminal: &mut Terminal<'_>,
) -> Result<(), CliError> {
    let wanted: Vec<&str> = objects.iter().map(|object| object.name.as_str()).collect();
    let mut states = check_ports(client, objects).await?;
    let stats = client
        .call(client.api().get_stats(v1::GetStatsRequest {}))
        .await?;
    let states: Vec<_> = wanted
        .iter()
        .filter_map(|name| states.remove(*name))
        .map(|state| manifest::to_json("PortState", &state, true))
        .collect::<Result<_, _>>()?;
    let stats: Vec<_> = stats
        .ports
        .iter()
        .filter(|port| wanted.contains(&port.name.as_str()))
        .map(|port| manifest::to_json("PortStats", port, true))
        .collect::<Result<_, _>>()?;
    let value = serde_json::json!({ "objects": as_json(objects)?, "states": states, "stats": stats });
    print::json(terminal, &value)
}

/// How often the policies' rules decided, by the policies' names.
pub(super) async fn policy_stats(client: &Client) -> Result<HashMap<String, v1::PolicyStats>, CliError> {
    let request = v1::GetPolicyStatsRequest::default();
    let answer = client.call(client.api().get_policy_stats(request)).await?;
    let by_name = |stats: v1::PolicyStats| (stats.name.clone(), stats);
    Ok(answer.policies.into_iter().map(by_name).collect())
}

async fn policies_as_json(
    client: &Client,
    objects: &[v1::Object],
    terminal: &mut Terminal<'_>,
) -> Result<(), CliError> {
    let mut stats = policy_stats(client).await?;
    let stats: Vec<_> = objects
        .iter()
        .filter_map(|object| stats.remove(&object.name))
        .map(|stats| manifest::to_json("PolicyStats", &stats, true))
        .collect::<Result<_, _>>()?;
    let value = serde_json::json!({ "objects": as_json(objects)?, "stats": stats });
    print::json(terminal, &value)
}

/// How many sessions floating IPs translated, by their names.
pub(super) async fn floating_ip_stats(
    client: &Client,
) -> Result<HashMap<String, v1::FloatingIpStats>, CliError> {
    let request = v1::GetNatStatsRequest::default();
    let answer = client.call(client.api().get_nat_stats(request)).await?;
    let by_name = |stats: v1::FloatingIpStats| (stats.name.clone(), stats);
    Ok(answer.floating_ips.into_iter().map(by_name).collect())
}

async fn floating_ips_as_json(
    client: &Client,
    objects: &[v1::Object],
    terminal: &mut Terminal<'_>,
) -> Result<(), CliError> {
    let mut stats = floating_ip_stats(client).await?;
    let stats: Vec<_> = objects
        .iter()
        .filter_map(|object| stats.remove(&object.name))
        .map(|stats| manifest::to_json("FloatingIpStats", &stats, true))
        .collect::<Result<_, _>>()?;
    let value = serde_json::json!({ "objects": as_json(objects)?, "stats": stats });
    print::json(terminal, &value)
}

/// How full pools are, by their names.
pub(super) async fn pool_stats(client: &Client) -> Result<HashMap<String, v1::NatPoolStats>, CliError> {
    let request = v1::GetNatStatsRequest::default();
    let answer = client.call(client.api().get_nat_stats(request)).await?;
    let by_name = |stats: v1::NatPoolStats| (stats.name.clone(), stats);
    Ok(answer.nat_pools.into_iter().map(by_name).collect())
}

async fn pools_as_json(
    client: &Client,
    objects: &[v1::Object],
    terminal: &mut Terminal<'_>,
) -> Result<(), CliError> {
    let mut stats = pool_stats(client).await?;
    let stats: Vec<_> = objects
        .iter()
        .filter_map(|object| stats.remove(&object.name))
        .map(|stats| manifest::to_json("NatPoolStats", &stats, true))
        .collect::<Result<_, _>>()?;
    let value = serde_json::json!({ "objects": as_json(objects)?, "stats": stats });
    print::json(terminal, &value)
}

/// How many sessions services have, by their names.
pub(super) async fn service_stats(client: &Client) -> Result<HashMap<String, v1::ServiceStats>, CliError> {
    let request = v1::GetNatStatsRequest::default();
    let answer = client.call(client.api().get_nat_stats(request)).await?;
    let by_name = |stats: v1::ServiceStats| (stats.name.clone(), stats);
    Ok(answer.services.into_iter().map(by_name).collect())
}

async fn services_as_json(
    client: &Client,
    objects: &[v1::Object],
    terminal: &mut Terminal<'_>,
) -> Result<(), CliError> {
    let mut stats = service_stats(client).await?;
    let stats: Vec<_> = objects
        .iter()
        .filter_map(|object| stats.remove(&object.name))
        .map(|stats| manifest::to_json("ServiceStats", &stats, true))
        .collect::<Result<_, _>>()?;
    let value = serde_json::json!({ "objects": as_json(objects)?, "stats": stats });
    print::json(terminal, &value)
}

async fn print_table(
    client: &Client,
    info: &'static KindInfo,
    objects: Vec<v1::Object>,
    rates: bool,
    terminal: &mut Terminal<'_>,
) -> Result<(), CliError> {
    if objects.is_empty() {
        return terminal.line(&format!("no {}", info.plural));
    }
    match info.kind {
        v1::Kind::Port => {}
        v1::Kind::Policy => {
            let mut stats = policy_stats(client).await?;
            let row = |object: v1::Object| {
                let stats = stats.remove(&object.name);
                (object, stats)
            };
            let rows: Vec<_> = objects.into_iter().map(row).collect();
            return policies::table(&rows).print(terminal);
        }
        v1::Kind::FloatingIp => {
            let mut stats = floating_ip_stats(client).await?;
            let row = |object: v1::Object| {
                let stats = stats.remove(&object.name);
                (object, stats)
            };
            let rows: Vec<_> = objects.into_iter().map(row).collect();
            return nat::table(&rows).print(terminal);
        }
        v1::Kind::NatPool => {
            let mut stats = pool_stats(client).await?;
            let row = |object: v1::Object| {
                let stats = stats.remove(&object.name);
                (object, stats)
            };
            let rows: Vec<_> = objects.into_iter().map(row).collect();
            return nat::pools(&rows).print(terminal);
        }
        v1::Kind::Service => {
            let mut stats = service_stats(client).await?;
            let row = |object: v1::Object| {
                let stats = stats.remove(&object.name);
                (object, stats)
            };
            let rows: Vec<_> = objects.into_iter().map(row).collect();
            return services::table(&rows).print(terminal);
        }
        _ => return objects::table(info, &objects).print(terminal),
    }
    let states = check_ports(client, &objects).await?;
    let first = client
        .call(client.api().get_stats(v1::GetStatsRequest {}))
        .await?;
    let before = by_name(&first);
    let mut rows = Vec::new();
    let (second, seconds) = if rates {
        let start = tokio::time::Instant::now();
        tokio::time::sleep(RATE_WINDOW).await;
        let second = client
            .call(client.api().get_stats(v1::GetStatsRequest {}))
            .await?;
        (Some(second), start.elapsed().as_secs_f64())
    } else {
        (None, 0.0)
    };
    let after = second.as_ref().map(by_name);
    for object in objects {
        let mut row = PortRow {
            link_up: states.get(&object.name).map(|state| state.link_up),
            ..PortRow::default()
        };
        let now = after
            .as_ref()
            .unwrap_or(&before)
            .get(object.name.as_str())
            .copied();
        if let Some(now) = now {
            row.drops = objects::drops(&now.drops);
            (row.received, row.sent) = match (&after, before.get(object.name.as_str())) {
                (None, _) => (units::count(now.rx_packets), units::count(now.tx_packets)),
                (Some(_), Some(before)) => (
                    units::rate(stats::per_second(before.rx_packets, now.rx_packets, seconds)),
                    units::rate(stats::per_second(before.tx_packets, now.tx_packets, seconds)),
                ),
                (Some(_), None) => (String::new(), String::new()),
            };
        }
        rows.push((object, row));
    }
    objects::ports(&rows, rates).print(terminal)
}

fn by_name(stats: &v1::GetStatsResponse) -> HashMap<&str, &v1::PortStats> {
    stats
        .ports
        .iter()
        .map(|port| (port.name.as_str(), port))
        .collect()
}

/// What the data plane says of the active ports, some at a time. A port that went away meanwhile is left out.
async fn check_ports(
    client: &Client,
    objects: &[v1::Object],
) -> Result<HashMap<String, v1::PortState>, CliError> {
    let mut states = HashMap::new();
    let active: Vec<&v1::Object> = objects
        .iter()
        .filter(|object| objects::state(object) == "active")
        .collect();
    for some in active.chunks(CHECKS_AT_ONCE) {
        let mut checks = JoinSet::new();
        for object in some {
            let (client, name) = (client.clone(), object.name.clone());
            checks.spawn(async move {
                client
                    .call(
                        client
                            .api()
                            .check_port(v1::CheckPortRequest { name: name.clone() }),
                    )
                    .await
            });
        }
        while let Some(check) = checks.join_next().await {
            let answer = match check {
                Ok(answer) => answer,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            };
            match answer {
                Ok(v1::CheckPortResponse {
                    port: Some(port),
                    state: Some(state),
                }) => {
                    states.insert(port.name, state);
                }
                Ok(_) => {}
                Err(CliError::Status(status)) if status.code() == tonic::Code::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(states)
}

async fn all(client: &Client, options: &GetArguments, terminal: &mut Terminal<'_>) -> Result<(), CliError> {
    let request = v1::GetRequest {
        owner: options.owner.clone().unwrap_or_default(),
        ..Default::default()
    };
    let mut objects = client.call(client.api().get(request)).await?.objects;
    keep_vrf(&mut objects, options.vrf.as_deref());
    let order = |object: &v1::Object| {
        KindInfo::of(object).and_then(|info| KINDS.iter().position(|known| known.kind == info.kind))
    };
    objects.sort_by(|a, b| order(a).cmp(&order(b)).then_with(|| a.name.cmp(&b.name)));
    match options.format.output {
        OutputFormat::Name => return names_only(&objects, terminal),
        OutputFormat::Yaml => return print::yaml_objects(terminal, &objects),
        OutputFormat::Json => {
            return print::json(terminal, &serde_json::json!({ "objects": as_json(&objects)? }));
        }
        OutputFormat::Table => {}
    }
    if objects.is_empty() {
        return terminal.line("no objects");
    }
    let mut separator = "";
    for info in &KINDS {
        let of_kind: Vec<v1::Object> = objects
            .iter()
            .filter(|object| KindInfo::of(object) == Some(info))
            .cloned()
            .collect();
        if of_kind.is_empty() {
            continue;
        }
        terminal.print(&format!("{separator}{}\n", info.plural.to_uppercase()))?;
        print_table(client, info, of_kind, false, terminal).await?;
        separator = "\n";
    }
    Ok(())
}

/// Who owns how many objects, and the last revision that each named.
async fn owners(client: &Client, format: OutputFormat, terminal: &mut Terminal<'_>) -> Result<(), CliError> {
    let answer = client.call(client.api().get(v1::GetRequest::default())).await?;
    let mut owners: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for owner in &answer.owners {
        owners.entry(&owner.owner).or_default().0 = owner.revision;
    }
    for object in &answer.objects {
        owners.entry(&object.owner).or_default().1 += 1;
    }
    if format != OutputFormat::Table {
        let list: Vec<_> = owners
            .iter()
            .map(|(owner, (revision, objects))| {
                serde_json::json!({ "owner": owner, "revision": revision, "objects": objects })
            })
            .collect();
        let value = serde_json::json!({ "owners": list });
        return match format {
            OutputFormat::Yaml => print::yaml(terminal, &value),
            _ => print::json(terminal, &value),
        };
    }
    let mut table = Table::new([
        Column::Text("OWNER"),
        Column::Number("REVISION"),
        Column::Number("OBJECTS"),
    ]);
    for (owner, (revision, objects)) in owners {
        // 0 is the API's word for an owner that counts nothing.
        let revision = if revision == 0 {
            String::new()
        } else {
            revision.to_string()
        };
        table.row([owner.to_owned(), revision, objects.to_string()]);
    }
    if table.is_empty() {
        terminal.line("no owners")
    } else {
        table.print(terminal)
    }
}

async fn flows(client: &Client, options: &GetArguments, terminal: &mut Terminal<'_>) -> Result<(), CliError> {
    let request = v1::ListFlowsRequest {
        vrf: options.vrf.clone().unwrap_or_default(),
        r#match: options.matching.clone().unwrap_or_default(),
        limit: options.limit.unwrap_or(0),
    };
    let mut stream = client.call(client.api().list_flows(request)).await?;
    let mut flows = Vec::new();
    while let Some(page) = client.next(&mut stream).await? {
        flows.extend(page.flows);
    }
    match options.format.output {
        OutputFormat::Json => {
            let flows = flows_as_json(&flows)?;
            print::json(terminal, &serde_json::json!({ "flows": flows }))
        }
        OutputFormat::Yaml => {
            let flows = flows_as_json(&flows)?;
            print::yaml(terminal, &serde_json::json!({ "flows": flows }))
        }
        OutputFormat::Name | OutputFormat::Table if flows.is_empty() => terminal.line("no flows"),
        OutputFormat::Name | OutputFormat::Table => stats::flow_table(&flows).print(terminal),
    }
}

fn flows_as_json(flows: &[v1::Flow]) -> Result<Vec<serde_json::Value>, CliError> {
    flows
        .iter()
        .map(|flow| manifest::to_json("Flow", flow, true))
        .collect()
}

/// The port in an object; none for other kinds.
pub(super) fn port_of(object: &v1::Object) -> Option<&v1::Port> {
    match &object.spec {
        Some(Spec::Port(port)) => Some(port),
        _ => None,
    }
}

//! `weft trace --what-if`: what would become of a packet, with nothing sent.

use weft_proto::v1;

use crate::{
    args::{OutputFormat, TraceArguments},
    client::Client,
    error::{CliError, ExitCode},
    manifest, packet,
    print::{self, trace},
    terminal::Terminal,
};

/// The packet that is asked about; what is wrong with it is known without weftd.
pub(super) fn packet(options: &TraceArguments) -> Result<v1::SupposedPacket, CliError> {
    if options.format.output == OutputFormat::Name {
        return Err(CliError::Usage {
            message: "-o name is for objects".to_owned(),
            help: "choose table, json or yaml".to_owned(),
        });
    }
    packet::parse(&options.packet.join(" ")).map_err(|error| CliError::Usage {
        message: error.to_string(),
        help: error.help,
    })
}

/// Exit code 1 if the packet would be dropped.
pub(super) async fn run(
    client: &Client,
    options: &TraceArguments,
    packet: v1::SupposedPacket,
    terminal: &mut Terminal<'_>,
) -> Result<ExitCode, CliError> {
    let request = v1::WhatIfRequest {
        from: options.from.clone(),
        packet: Some(packet.clone()),
    };
    let answer = client.call(client.api().what_if(request)).await?;
    let json = || manifest::to_json("WhatIfResponse", &answer, true);
    match options.format.output {
        OutputFormat::Json => print::json(terminal, &json()?)?,
        OutputFormat::Yaml => print::yaml(terminal, &json()?)?,
        OutputFormat::Table | OutputFormat::Name => {
            terminal.print(&trace::text(&options.from, &packet, &answer))?;
        }
    }
    Ok(match answer.drop_reason.is_empty() {
        true => ExitCode::Success,
        false => ExitCode::Failure,
    })
}

//! Aligned columns without borders: names to the left, numbers to the right.

use comfy_table::{Cell, CellAlignment, Table as Layout, presets};

use crate::{error::CliError, terminal::Terminal};

/// A column's heading and side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Text, to the left.
    Text(&'static str),
    /// A number, to the right.
    Number(&'static str),
}

/// Rows under headings.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Self {
            columns: columns.into_iter().collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; an empty cell shows as a dash.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) -> &mut Self {
        let dash = |cell: String| if cell.is_empty() { "-".to_owned() } else { cell };
        self.rows.push(cells.into_iter().map(dash).collect());
        self
    }

    /// True if there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, headings first.
    pub fn text(&self) -> String {
        let mut layout = Layout::new();
        layout.load_style(presets::NOTHING);
        let cell = |column: &Column, text: &str| {
            Cell::new(text).set_alignment(match column {
                Column::Text(_) => CellAlignment::Left,
                Column::Number(_) => CellAlignment::Right,
            })
        };
        let heading = |column: &Column| match column {
            Column::Text(name) | Column::Number(name) => *name,
        };
        layout.set_header(self.columns.iter().map(|column| cell(column, heading(column))));
        for row in &self.rows {
            // Line breaks in a message would tear the row apart.
            let cells = self
                .columns
                .iter()
                .zip(row)
                .map(|(column, text)| cell(column, &text.replace(['\n', '\r'], " ")));
            layout.add_row(cells.collect::<Vec<_>>());
        }
        for column in layout.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let mut text = layout.trim_fmt();
        text.push('\n');
        text
    }

    /// Prints the table; headings stand out on a terminal.
    pub fn print(&self, terminal: &mut Terminal<'_>) -> Result<(), CliError> {
        let text = self.text();
        if !terminal.colour {
            return terminal.print(&text);
        }
        let (heading, rows) = text.split_once('\n').unwrap_or((&text, ""));
        terminal.print(&format!("\x1b[1m{heading}\x1b[0m\n{rows}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_with_their_last_word() {
        let mut table = Table::new([
            Column::Text("NAME"),
            Column::Number("PACKETS"),
            Column::Text("HELP"),
        ]);
        table.row(["a".to_owned(), "12".to_owned(), "x\ny".to_owned()]);
        table.row(["longer".to_owned(), "1.2 M".to_owned(), String::new()]);
        assert_eq!(
            table.text(),
            "NAME    PACKETS  HELP\n\
             a            12  x y\n\
             longer    1.2 M  -\n"
        );
    }
}

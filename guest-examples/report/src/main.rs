//! Megabytes of CSV in, one line of figures per group out.
//!
//! The input is read row by row: memory is needed for the groups, not for the rows.

use std::collections::HashMap;
use std::io::Read;

use midge_job::{Error, Result};
use serde::{Deserialize, Serialize};

/// Groups in a report. More of them is no summary, and most likely the wrong column.
const GROUPS_MAX: usize = 100_000;
/// How often progress is told.
const ROWS_PER_PROGRESS: u64 = 50_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Args {
    /// The name of the column whose values make the groups.
    group_by: String,
    /// The name of the column with the numbers.
    value: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct Report {
    rows: u64,
    groups: Vec<Group>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Group {
    key: String,
    /// Rows with a number.
    count: u64,
    /// Rows whose number is left out.
    empty: u64,
    sum: f64,
    min: Option<f64>,
    max: Option<f64>,
    mean: Option<f64>,
}

#[midge_job::main]
fn report(args: Args) -> Result<Report> {
    summarise(midge_job::input_reader(), &args)
}

fn summarise(csv: impl Read, args: &Args) -> Result<Report> {
    let mut reader = csv::Reader::from_reader(csv);
    let headers = reader.byte_headers().map_err(unreadable)?.clone();
    let key_column = column(&headers, &args.group_by)?;
    let value_column = column(&headers, &args.value)?;
    let mut groups: HashMap<Vec<u8>, Group> = HashMap::new();
    let mut row = csv::ByteRecord::new();
    let mut rows = 0;
    while reader.read_byte_record(&mut row).map_err(unreadable)? {
        // The reader refuses rows of another length than the headers.
        let (key, value) = (&row[key_column], &row[value_column]);
        let full = groups.len() == GROUPS_MAX;
        let group = match groups.get_mut(key) {
            Some(group) => group,
            None if full => {
                let column = &args.group_by;
                return Err(Error::refuse(format!("column `{column}` has more than {GROUPS_MAX} groups")));
            }
            None => groups.entry(key.to_owned()).or_insert_with(|| Group::new(key)),
        };
        match number(value) {
            Ok(number) => group.add(number),
            Err(()) => return Err(not_a_number(value, &args.value, &row)),
        }
        rows += 1;
        if rows % ROWS_PER_PROGRESS == 0 {
            midge_job::progress(rows, 0, "rows");
        }
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(Report { rows, groups })
}

fn column(headers: &csv::ByteRecord, name: &str) -> Result<usize> {
    headers.iter().position(|header| header == name.as_bytes()).ok_or_else(|| {
        let names: Vec<_> = headers.iter().map(String::from_utf8_lossy).collect();
        Error::refuse(format!("there is no column `{name}`: there are `{}`", names.join("`, `")))
    })
}

/// Reads a number, or nothing where the field is empty.
fn number(field: &[u8]) -> Result<Option<f64>, ()> {
    let text = std::str::from_utf8(field).map_err(drop)?.trim();
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Some(number)),
        _ => Err(()),
    }
}

fn not_a_number(field: &[u8], column: &str, row: &csv::ByteRecord) -> Error {
    let line = row.position().map_or(0, |position| position.line());
    let field = String::from_utf8_lossy(field);
    Error::refuse(format!("line {line}: `{field}` in column `{column}` is not a number"))
}

/// A failing stdin may get better, a malformed file will not.
fn unreadable(error: csv::Error) -> Error {
    if error.is_io_error() { Error::new(error) } else { Error::refuse(error) }
}

impl Group {
    fn new(key: &[u8]) -> Group {
        let key = String::from_utf8_lossy(key).into_owned();
        Group { key, count: 0, empty: 0, sum: 0.0, min: None, max: None, mean: None }
    }

    fn add(&mut self, number: Option<f64>) {
        let Some(number) = number else {
            self.empty += 1;
            return;
        };
        self.count += 1;
        self.sum += number;
        self.min = Some(self.min.map_or(number, |min| min.min(number)));
        self.max = Some(self.max.map_or(number, |max| max.max(number)));
        self.mean = Some(self.sum / self.count as f64);
    }
}

#[cfg(test)]
mod tests {
    use midge_job::Disposition;
    use midge_job::testing::Given;

    use super::*;

    fn args() -> Args {
        Args { group_by: "city".to_owned(), value: "sales".to_owned() }
    }

    #[test]
    fn rows_are_grouped_and_their_numbers_summed() {
        let csv = "day,city,sales\n1,Oslo,10\n2,\"Bergen, west\",1.5\n3,Oslo, -4 \n4,Oslo,\n";
        let report = Given::new().input(csv).run(|| report(args())).unwrap();
        let group = |key: &str, count, empty, sum, min, max, mean| Group {
            key: key.to_owned(),
            count,
            empty,
            sum,
            min: Some(min),
            max: Some(max),
            mean: Some(mean),
        };
        let groups =
            vec![group("Bergen, west", 1, 0, 1.5, 1.5, 1.5, 1.5), group("Oslo", 2, 1, 6.0, -4.0, 10.0, 3.0)];
        assert_eq!(report, Report { rows: 4, groups });
    }

    #[test]
    fn a_table_without_rows_has_no_groups() {
        assert_eq!(summarise(&b"city,sales\n"[..], &args()).unwrap(), Report { rows: 0, groups: vec![] });
    }

    #[test]
    fn a_malformed_table_is_refused_with_its_place() {
        let cases = [
            ("city,sales\nOslo,1\nOslo,many\n", "line 3: `many` in column `sales` is not a number"),
            ("city,sales\nOslo,inf\n", "line 2: `inf` in column `sales` is not a number"),
            ("town,sales\n", "there is no column `city`: there are `town`, `sales`"),
            ("", "there is no column `city`: there are ``"),
        ];
        for (csv, message) in cases {
            let error = summarise(csv.as_bytes(), &args()).unwrap_err();
            assert_eq!(error.to_string(), message);
            assert_eq!(error.disposition(), Disposition::Refuse);
        }
        let ragged = summarise(&b"city,sales\nOslo\n"[..], &args()).unwrap_err();
        assert_eq!(ragged.disposition(), Disposition::Refuse);
    }
}

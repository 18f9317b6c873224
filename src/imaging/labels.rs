//! Labels of an archive: a folder per class, or `labels.csv`.

use std::collections::HashMap;

use serde::Deserialize;

use crate::domain::{Split, line};

/// The file that holds labels.
pub const FILE_NAME: &str = "labels.csv";
/// The columns it may have.
const COLUMNS: [&str; 4] = ["file", "label", "patient", "split"];
/// Rows whose errors are listed; the rest is counted.
const ERRORS_SHOWN: usize = 100;

/// The label, split and patient that a row or a folder tells of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labelled {
    /// Class.
    pub label: Option<String>,
    /// Patient, as written; never stored.
    pub patient: Option<String>,
    /// Split asked for.
    pub split: Option<Split>,
}

/// The reason why `labels.csv` cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadLabels {
    /// The columns are not the expected ones.
    #[error(
        "labels.csv must start with the columns `file,label`, and may have `patient` and `split`: {0}"
    )]
    Columns(String),
    /// Rows that cannot be used, all of them.
    #[error("labels.csv has rows that cannot be used:\n{}", .0.join("\n"))]
    Rows(Vec<String>),
    /// More rows than allowed.
    #[error("labels.csv has more than {max} rows (LVMED_LIMIT_LABEL_ROWS)")]
    TooMany {
        /// The limit.
        max: u64,
    },
}

#[derive(Deserialize)]
struct Row {
    file: String,
    label: String,
    #[serde(default)]
    patient: Option<String>,
    #[serde(default)]
    split: Option<String>,
}

/// The rows of `labels.csv`.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<(String, u64, Labelled, bool)>,
    by_path: HashMap<String, usize>,
    by_name: HashMap<String, Option<usize>>,
}

impl Table {
    /// Parses the file; every wrong row is reported, not only the first.
    pub fn parse(bytes: &[u8], max_rows: u64) -> Result<Self, BadLabels> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .delimiter(delimiter(bytes))
            .from_reader(bytes);
        let headers =
            reader.headers().map_err(|error| BadLabels::Columns(error.to_string()))?.clone();
        let lower: csv::StringRecord = headers.iter().map(str::to_ascii_lowercase).collect();
        check_columns(&lower)?;
        let (mut table, mut errors) = (Self::default(), Vec::new());
        for record in reader.records() {
            if table.rows.len() as u64 >= max_rows {
                return Err(BadLabels::TooMany { max: max_rows });
            }
            let row = record.and_then(|record| {
                let line = record.position().map_or(0, csv::Position::line);
                record.deserialize::<Row>(Some(&lower)).map(|row| (line, row))
            });
            match row {
                Ok((line, row)) => {
                    if let Err(error) = table.add(line, row) {
                        errors.push(format!("row {line}: {error}"));
                    }
                }
                // The reader's own message would quote the row.
                Err(error) => {
                    let line = error.position().map_or(0, csv::Position::line);
                    errors.push(format!("row {line}: wrong number of columns or not UTF-8"));
                }
            }
        }
        if errors.is_empty() {
            return Ok(table);
        }
        let more = errors.len().saturating_sub(ERRORS_SHOWN);
        errors.truncate(ERRORS_SHOWN);
        if more > 0 {
            errors.push(format!("and {more} more"));
        }
        Err(BadLabels::Rows(errors))
    }

    fn add(&mut self, line: u64, row: Row) -> Result<(), String> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let file = normal(&row.file);
        if file.is_empty() {
            return Err("`file` is empty".to_owned());
        }
        if row.label.is_empty() {
            return Err("`label` is empty".to_owned());
        }
        let label = class(&row.label)?;
        let split = given(row.split).map(|text| text.parse::<Split>()).transpose();
        let split = split.map_err(|error| error.to_string())?;
        if self.by_path.contains_key(&file) {
            return Err("the same file is in an earlier row".to_owned());
        }
        let at = self.rows.len();
        let name = base_name(&file).to_owned();
        self.by_name.entry(name).and_modify(|known| *known = None).or_insert(Some(at));
        self.by_path.insert(file.clone(), at);
        let labelled = Labelled { label: Some(label), patient: given(row.patient), split };
        self.rows.push((file, line, labelled, false));
        Ok(())
    }

    /// The row of the table for a file, by its path beside the table, else by its unique base name.
    pub fn find(&mut self, path: &str) -> Option<Labelled> {
        let path = normal(path);
        let at = self
            .by_path
            .get(&path)
            .copied()
            .or_else(|| self.by_name.get(base_name(&path)).copied().flatten())?;
        let (_, _, labelled, used) = self.rows.get_mut(at)?;
        *used = true;
        Some(labelled.clone())
    }

    /// The rows that no file was found for: `(row, file)`.
    pub fn unused(&self) -> impl Iterator<Item = (u64, &str)> {
        let unused = self.rows.iter().filter(|(_, _, _, used)| !used);
        unused.map(|(file, line, _, _)| (*line, file.as_str()))
    }
}

/// The label and split that the folders of a path tell: the last one is the class, a leading one may
/// be the split.
pub fn from_folders(path: &str) -> Result<Labelled, String> {
    let path = normal(path);
    let mut folders: Vec<&str> = path.split('/').collect();
    folders.pop();
    let split = folders.first().and_then(|first| first.parse::<Split>().ok());
    if split.is_some() {
        folders.remove(0);
    }
    let label = folders.last().map(|label| class(label)).transpose()?;
    Ok(Labelled { label, patient: None, split })
}

/// A class in the one form that it is stored in, wherever it comes from.
pub fn class(label: &str) -> Result<String, String> {
    line::parse(label).map_err(|error| format!("the label {error}"))
}

/// A misspelt `patient` that went unnoticed would let one patient into two splits: what is not known
/// is refused.
fn check_columns(headers: &csv::StringRecord) -> Result<(), BadLabels> {
    let wrong = |what: String| Err(BadLabels::Columns(what));
    for wanted in &COLUMNS[..2] {
        if !headers.iter().any(|header| header == *wanted) {
            return wrong(format!("`{wanted}` is missing"));
        }
    }
    for (at, header) in headers.iter().enumerate() {
        let shown: String = header.chars().filter(|c| !c.is_control()).take(80).collect();
        if !COLUMNS.contains(&header) {
            return wrong(format!("`{shown}` is not known"));
        }
        if headers.iter().take(at).any(|earlier| earlier == header) {
            return wrong(format!("`{shown}` is there twice"));
        }
    }
    Ok(())
}

fn normal(path: &str) -> String {
    // Some systems write names decomposed; the table that names them may have been written on others.
    let path = line::composed(path).replace('\\', "/");
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Spreadsheets of half the world write semicolons.
fn delimiter(bytes: &[u8]) -> u8 {
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |wanted: u8| first.iter().filter(|byte| **byte == wanted).count();
    [b',', b';', b'\t']
        .into_iter()
        .max_by_key(|candidate| (count(*candidate), *candidate == b','))
        .unwrap_or(b',')
}

#[cfg(test)]
mod tests {
    use super::{BadLabels, Labelled, Table, from_folders};
    use crate::domain::Split;

    #[test]
    fn rows_are_found_by_path_and_by_unique_name() {
        let csv = b"\xEF\xBB\xBFFile;Label;Patient;Split\na\\x.png;left;p1;val\nb/y.png;right;;\n";
        let mut table = Table::parse(csv, 10).expect("a good table");

        let by_path = table.find("a/x.png").expect("found");
        let by_name = table.find("elsewhere/y.png").expect("found");

        assert_eq!(by_path.patient.as_deref(), Some("p1"));
        assert_eq!(by_path.split, Some(Split::Validation));
        assert_eq!(by_name.label.as_deref(), Some("right"));
        assert_eq!(table.unused().count(), 0);
    }

    #[test]
    fn every_wrong_row_is_reported() {
        let csv = b"file,label,split\nx.png,,\n,left,\ny.png,left,somewhere\nz.png,left,test\n";

        let error = Table::parse(csv, 10).expect_err("refused");

        let BadLabels::Rows(rows) = error else { panic!("{error}") };
        assert_eq!(rows.len(), 3, "{rows:?}");
        assert!(rows[0].starts_with("row 2: `label` is empty"), "{rows:?}");
        assert!(rows[2].contains("\"somewhere\" is not a known split"), "{rows:?}");
    }

    #[test]
    fn unknown_and_repeated_columns_are_named() {
        let refused = |head: &str| Table::parse(head.as_bytes(), 10).expect_err("refused");

        assert!(refused("file,label,patiant\n").to_string().ends_with("`patiant` is not known"));
        assert!(refused("file,Label,label\n").to_string().ends_with("`label` is there twice"));
    }

    #[test]
    fn missing_columns_and_too_many_rows_are_named() {
        assert!(
            Table::parse(b"name,class\n", 10).expect_err("refused").to_string().contains("`file`")
        );
        let many = b"file,label\na,x\nb,x\n";
        assert_eq!(Table::parse(many, 1).expect_err("refused"), BadLabels::TooMany { max: 1 });
    }

    #[test]
    fn folders_give_class_and_split() {
        let both = from_folders("Train/NORMAL/1.png").expect("fine");
        let class = from_folders("NORMAL/1.png").expect("fine");
        let none = from_folders("1.png").expect("fine");

        assert_eq!(both.label.as_deref(), Some("NORMAL"));
        assert_eq!(both.split, Some(Split::Train));
        assert_eq!(class.label.as_deref(), Some("NORMAL"));
        assert_eq!(none, Labelled::default());
    }
}

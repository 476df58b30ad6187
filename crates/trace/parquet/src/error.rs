use std::fmt;

use parquet::errors::ParquetError;
use thiserror::Error;

/// Why a file cannot be imported, or not to its end; says where, and how many spans were handed on
/// before.
#[derive(Debug, Error)]
pub struct ImportError {
    /// The file.
    pub file: String,
    /// The row group, counted from 0, if the problem is in one.
    pub row_group: Option<usize>,
    /// The column's path, if the problem is in one.
    pub column: Option<String>,
    /// The row of the file, counted from 0, if the problem is in one.
    pub row: Option<u64>,
    /// How many spans were handed on before.
    pub spans_before: u64,
    /// What is wrong.
    #[source]
    pub problem: Box<ImportProblem>,
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot import {}", self.file)?;
        if let Some(row_group) = self.row_group {
            write!(f, ", row group {row_group}")?;
        }
        if let Some(row) = self.row {
            write!(f, ", row {row}")?;
        }
        if let Some(column) = &self.column {
            write!(f, ", column {column}")?;
        }
        match self.spans_before {
            0 => Ok(()),
            n => write!(f, " ({n} spans were imported before)"),
        }
    }
}

/// What is wrong with a file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportProblem {
    /// The file cannot be opened or read.
    #[error("the file cannot be read")]
    Io(#[from] std::io::Error),
    /// Not Parquet, or not all of it.
    #[error("this is no whole Parquet file: its end is missing, or it is something else")]
    NotParquet(#[source] ParquetError),
    /// Columns of an export are missing.
    #[error(
        "these columns of an export are missing: {}; docs/parquet.md has all that are needed", .0.join(", ")
    )]
    MissingColumns(Vec<String>),
    /// A column has another type than in an export.
    #[error("the column is {found}, in an export it is {expected}")]
    ColumnType {
        /// What it is.
        found: String,
        /// What it must be.
        expected: String,
    },
    /// The file was written by a later version.
    #[error("the file has version {0} of the columns, this program knows those up to {max}; use a newer one", max = crate::VERSION)]
    Newer(String),
    /// The footer puts a column where the file has nothing.
    #[error("the file is damaged: its footer puts the column outside of it")]
    OutsideOfFile,
    /// The bytes are not those that were written.
    #[error("the file is damaged: its checksum is {found}, it was written with {expected}")]
    Damaged {
        /// The checksum of what is there.
        found: String,
        /// The checksum in the footer.
        expected: String,
    },
    /// There are not as many rows as the footer says.
    #[error("there are {found} rows where the footer says {expected}")]
    RowCount {
        /// Rows that are there.
        found: u64,
        /// Rows that should be there.
        expected: u64,
    },
    /// The column cannot be decoded.
    #[error("the column cannot be decoded")]
    Decode(#[source] ParquetError),
    /// The column ends before its row group.
    #[error("the column ends before its row group")]
    Short,
    /// A value that must be there is missing.
    #[error("there is no value, and there must be one")]
    Null,
    /// The lists of the columns of one list are not equally long.
    #[error("its lists are not as long as those of the columns beside it")]
    OutOfStep,
    /// A value is none that an export has.
    #[error("{0}")]
    Value(String),
}

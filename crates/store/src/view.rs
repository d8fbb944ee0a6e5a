//! Looking at a store that nobody runs on: nothing in it is changed, and nothing is recovered that was not acknowledged.

use std::path::Path;

use rocksdb::{ColumnFamily, DB};

use crate::ack::{AckFile, AckState};
use crate::backend::{KeyRange, Read, Visit};
use crate::error::StoreError;
use crate::head::{Head, judge};
use crate::layout::{DirLock, Layout};
use crate::open::inspect;
use crate::options::{StoreOptions, base};
use crate::rocks::scan_family;
use crate::table::Table;

/// A store, opened for reading. As long as this lives nobody else opens it.
pub struct StoreView {
    // The database closes before the directory is let go: fields drop in this order.
    db: DB,
    head: Head,
    _lock: DirLock,
}

impl StoreView {
    /// Opens the store in `dir` for reading. `None`: there is none.
    ///
    /// # Errors
    /// Whatever would keep [`crate::RocksStore::open`] from opening it.
    pub fn open(dir: &Path, options: &StoreOptions) -> Result<Option<Self>, StoreError> {
        let layout = Layout::of(dir);
        if !layout.db.exists() && !layout.head.exists() {
            return Ok(None);
        }
        let lock = DirLock::acquire(&layout)?;
        let found = inspect(&layout.db, options)?;
        let acknowledged = AckFile::read(&layout.head).map_err(StoreError::io("read", &layout.head))?;
        let head = match (found, acknowledged) {
            (Some(found), AckState::Known(acknowledged)) => {
                judge(&found, &acknowledged)?;
                found
            }
            (None, AckState::Known(acknowledged)) if acknowledged.seq > Head::EMPTY.seq => {
                return Err(StoreError::AcknowledgedLost { acknowledged: acknowledged.seq, found: Head::EMPTY.seq });
            }
            // What a start began and did not finish.
            (None, AckState::Absent | AckState::Known(_)) => return Ok(None),
            (Some(_), AckState::Absent) | (_, AckState::Unreadable) => return Err(StoreError::HeadUnreadable { path: layout.head }),
        };
        let db = DB::open_cf_descriptors_read_only(&base(), &layout.db, options.tables(), false)
            .map_err(StoreError::rocks("open for reading"))?;
        Ok(Some(Self { db, head, _lock: lock }))
    }

    /// The last batch in it.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// A table of an older database may be missing: then it is empty.
    fn family(&self, table: Table) -> Option<&ColumnFamily> {
        self.db.cf_handle(table.name())
    }
}

impl Read for StoreView {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(family) = self.family(table) else { return Ok(None) };
        self.db.get_cf(family, key).map_err(StoreError::rocks("read"))
    }

    fn scan(&self, table: Table, range: &KeyRange, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let Some(family) = self.family(table) else { return Ok(()) };
        scan_family(&self.db, family, range, visit)
    }
}

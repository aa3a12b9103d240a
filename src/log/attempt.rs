//! The appender's way back, when what it was writing can't be written whole.

use super::append::Appender;
use super::failure::AppendFailure;
use super::ready::Ready;
use super::segment::file_name;

impl Appender {
    /// Writes something, or leaves the log's end where it was. Can be nested.
    pub(crate) fn or_step_back(
        &mut self,
        write: impl FnOnce(&mut Appender) -> Result<(), AppendFailure>,
    ) -> Result<(), AppendFailure> {
        let saved = (self.position, self.room);
        let ready = self.ready;
        let coming = (self.pool.clone(), self.vacant.clone(), self.fresh);
        let made = self.made.len();
        self.attempts += 1;
        let done = write(self);
        self.attempts -= 1;
        if done.is_err() {
            self.has_stale_end = true;
            let left = self.position.segment;
            (self.position, self.room) = saved;
            (self.pool, self.vacant, self.fresh) = coming;
            self.show_pool();
            if left != self.position.segment {
                // The tail went on with the log; what it held of the segment before is in the file.
                self.leave_tail();
            }
            let gone = self.made.split_off(made);
            if matches!(done, Err(AppendFailure::Clean(_))) {
                for number in gone {
                    self.unmake(number);
                }
            }
            if self.ready != ready {
                // Its header says that the log came there, and behind it may stand what was given up.
                self.ready = ready.map(Ready::stepped_back);
                self.position.next_is_fresh &= !self.files.contains_key(&self.position.next);
            }
        } else if self.attempts == 0 {
            self.made.clear();
        }
        done
    }

    /// Removes the file of a segment that the log has stepped back from: nothing refers to it, and the disk may be full.
    pub(super) fn unmake(&mut self, number: u32) {
        self.files.remove(&number);
        self.forget_writes(number);
        if let Some(segment) = self.segments.get(number) {
            self.segments.forget_files(&[segment]);
        }
        // What can't be removed is replaced when the log comes there, or found by the next opening.
        let _ = self.segments.storage().remove(&file_name(number));
    }
}

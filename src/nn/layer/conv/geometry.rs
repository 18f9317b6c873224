//! The sizes of a convolution, and the unfolding of an image into columns and back.

use std::ops::Range;

use candle_core::{Result, Shape, WithDType, bail};

/// Bytes of unfolded columns that are worked on at a time: half of a usual second-level cache, the
/// rest being for the weight and the output.
const TILE_BYTES: usize = 512 << 10;

/// The way of a kernel over an image: rows first, then columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvSettings {
    /// Pixels from one position to the next.
    pub stride: (usize, usize),
    /// Zeros beyond each border.
    pub padding: (usize, usize),
    /// Pixels from one tap of the kernel to the next.
    pub dilation: (usize, usize),
    /// Groups of channels that are convolved apart; as many as channels is a depthwise convolution.
    pub groups: usize,
}

impl Default for ConvSettings {
    fn default() -> Self {
        Self { stride: (1, 1), padding: (0, 0), dilation: (1, 1), groups: 1 }
    }
}

impl ConvSettings {
    /// The same stride and padding for rows and columns.
    pub fn square(stride: usize, padding: usize) -> Self {
        let (stride, padding) = ((stride, stride), (padding, padding));
        Self { stride, padding, ..Self::default() }
    }
}

/// The sizes of a convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub(super) images: usize,
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) outputs: usize,
    pub(super) kernel_height: usize,
    pub(super) kernel_width: usize,
    /// Of rows and of columns, as the two below.
    pub(super) strides: (usize, usize),
    pub(super) paddings: (usize, usize),
    pub(super) dilations: (usize, usize),
    pub(super) groups: usize,
    pub(super) out_height: usize,
    pub(super) out_width: usize,
}

impl Geometry {
    /// The sizes of `x` `[N, C, H, W]` under `weight` `[O, C/G, kh, kw]`.
    pub(super) fn of(
        (images, channels, height, width): (usize, usize, usize, usize),
        (outputs, expected, kernel_height, kernel_width): (usize, usize, usize, usize),
        settings: &ConvSettings,
    ) -> Result<Self> {
        let ConvSettings { stride, padding, dilation, groups } = *settings;
        if groups == 0 || channels != expected * groups || outputs % groups != 0 {
            bail!(
                "a convolution of {groups} groups over {expected} channels each, to {outputs} in \
                 all, was given {channels} channels"
            );
        }
        let out = |size: usize, kernel: usize, stride: usize, padding: usize, dilation: usize| {
            let room = (size + 2 * padding).checked_sub(dilation * kernel.checked_sub(1)? + 1)?;
            room.checked_div(stride).filter(|_| dilation > 0).map(|steps| steps + 1)
        };
        let (Some(out_height), Some(out_width)) = (
            out(height, kernel_height, stride.0, padding.0, dilation.0),
            out(width, kernel_width, stride.1, padding.1, dilation.1),
        ) else {
            bail!(
                "a {kernel_height}x{kernel_width} kernel with {settings:?} does not fit \
                 {height}x{width} pixels"
            );
        };
        Ok(Self {
            images,
            channels,
            height,
            width,
            outputs,
            kernel_height,
            kernel_width,
            strides: stride,
            paddings: padding,
            dilations: dilation,
            groups,
            out_height,
            out_width,
        })
    }

    /// The convolution of one group alone.
    pub(super) fn of_group(&self) -> Self {
        Self {
            channels: self.channels / self.groups,
            outputs: self.outputs / self.groups,
            groups: 1,
            ..*self
        }
    }

    /// Values of one input image.
    pub(super) fn image(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Positions of the output.
    pub(super) fn positions(&self) -> usize {
        self.out_height * self.out_width
    }

    /// Values of one output image.
    pub(super) fn output(&self) -> usize {
        self.outputs * self.positions()
    }

    /// Inputs of one output: rows of the unfolded image.
    pub(super) fn taps(&self) -> usize {
        self.channels / self.groups * self.kernel_height * self.kernel_width
    }

    /// Whether an image is its own unfolding.
    pub(super) fn is_plain(&self) -> bool {
        (self.kernel_height, self.kernel_width) == (1, 1)
            && self.strides == (1, 1)
            && self.paddings == (0, 0)
            && self.groups == 1
    }

    pub(super) fn output_shape(&self) -> Shape {
        (self.images, self.outputs, self.out_height, self.out_width).into()
    }

    /// Ranges of output rows whose unfolding fits the cache, in order.
    pub(super) fn tiles(&self, value_bytes: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let line = self.taps() * self.out_width * value_bytes;
        let rows = if self.is_plain() { self.out_height } else { (TILE_BYTES / line).max(1) };
        let height = self.out_height;
        (0..height).step_by(rows).map(move |start| start..(start + rows).min(height))
    }

    /// The columns of the output whose input column lies inside the image, for a kernel offset.
    fn inside(&self, offset: usize) -> Range<usize> {
        let (padding, stride, shift) = (self.paddings.1, self.strides.1, offset * self.dilations.1);
        let first = padding.saturating_sub(shift).div_ceil(stride);
        let beyond = (self.width + padding).saturating_sub(shift).div_ceil(stride);
        let end = beyond.min(self.out_width);
        first.min(end)..end
    }

    /// The input row of an output row, if it lies inside the image.
    fn input_row(&self, out_row: usize, offset: usize) -> Option<usize> {
        let shifted = out_row * self.strides.0 + offset * self.dilations.0;
        let row = shifted.checked_sub(self.paddings.0)?;
        (row < self.height).then_some(row)
    }

    /// The place in its plane where the first value of an unfolded line lies.
    fn line_start(&self, input_row: usize, inside: &Range<usize>, offset: usize) -> usize {
        let shifted = inside.start * self.strides.1 + offset * self.dilations.1;
        input_row * self.width + shifted - self.paddings.1
    }

    /// Each row of the unfolding: its plane and its offsets in the kernel.
    fn each_tap(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let (channels, height, width) = (self.channels, self.kernel_height, self.kernel_width);
        (0..channels).flat_map(move |channel| {
            (0..height).flat_map(move |row| (0..width).map(move |column| (channel, row, column)))
        })
    }

    /// Unfolds some output rows of an image: `columns` becomes `[taps, rows * out_width]`.
    pub(super) fn unfold<T: WithDType>(
        &self,
        image: &[T],
        rows: &Range<usize>,
        columns: &mut Vec<T>,
    ) {
        let count = rows.len() * self.out_width;
        columns.resize(self.taps() * count, T::zero());
        let plane_size = self.height * self.width;
        for ((channel, row, column), target) in self.each_tap().zip(columns.chunks_exact_mut(count))
        {
            let plane = &image[channel * plane_size..][..plane_size];
            let inside = self.inside(column);
            for (out_row, line) in rows.clone().zip(target.chunks_exact_mut(self.out_width)) {
                let Some(input_row) = self.input_row(out_row, row) else {
                    line.fill(T::zero());
                    continue;
                };
                line[..inside.start].fill(T::zero());
                line[inside.end..].fill(T::zero());
                if inside.is_empty() {
                    continue;
                }
                let source = &plane[self.line_start(input_row, &inside, column)..];
                if self.strides.1 == 1 {
                    line[inside.clone()].copy_from_slice(&source[..inside.len()]);
                } else {
                    let source = source.iter().step_by(self.strides.1);
                    line[inside.clone()].iter_mut().zip(source).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }

    /// Adds the columns of some output rows back onto the image that they were unfolded from.
    pub(super) fn fold<T: WithDType>(&self, columns: &[T], rows: &Range<usize>, image: &mut [T]) {
        let count = rows.len() * self.out_width;
        let plane_size = self.height * self.width;
        for ((channel, row, column), source) in self.each_tap().zip(columns.chunks_exact(count)) {
            let plane = &mut image[channel * plane_size..][..plane_size];
            let inside = self.inside(column);
            if inside.is_empty() {
                continue;
            }
            for (out_row, line) in rows.clone().zip(source.chunks_exact(self.out_width)) {
                let Some(input_row) = self.input_row(out_row, row) else { continue };
                let target = &mut plane[self.line_start(input_row, &inside, column)..];
                let line = &line[inside.clone()];
                if self.strides.1 == 1 {
                    target.iter_mut().zip(line).for_each(|(to, from)| *to += *from);
                } else {
                    let target = target.iter_mut().step_by(self.strides.1);
                    target.zip(line).for_each(|(to, from)| *to += *from);
                }
            }
        }
    }
}

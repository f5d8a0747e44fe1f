"""The Fourier transform against one frame by hand."""

import torch

from tokenizers_zoo.fourier import power, stft


def test_a_frame_is_the_transform_of_its_windowed_samples() -> None:
    wave, window = torch.randn(2, 64).half(), torch.hann_window(12).half()  # of a module that was cast
    frame = stft(wave, window, hop=4, n_fft=16, centred=False)[..., 3]
    wanted = torch.fft.rfft(wave[:, 12:28].float() * torch.nn.functional.pad(window.float(), (2, 2)))
    torch.testing.assert_close(frame, wanted)
    centred = stft(wave, torch.hann_window(16), hop=4)
    assert centred.shape == (2, 9, 17)
    mirrored = torch.cat([wave[:, 1:9].flip(1), wave[:, :8]], dim=1).float()
    torch.testing.assert_close(centred[..., 0], torch.fft.rfft(mirrored * torch.hann_window(16)))


def test_power_of_silence_has_a_gradient() -> None:
    wave = torch.zeros(1, 64, requires_grad=True)
    power(stft(wave, torch.hann_window(16), 4)).sum().backward()
    assert torch.equal(wave.grad, torch.zeros(1, 64))

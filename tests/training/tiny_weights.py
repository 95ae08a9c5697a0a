"""Small networks of timm's families, and files of weights for the tests."""

FAMILIES = (
    *("resnet18", "resnext26ts", "regnetx_002", "densenet121", "vgg11", "efficientnet_b0", "tf_efficientnet_lite0"),
    *("mobilenetv3_small_050", "mobilenetv4_conv_small", "lcnet_050", "ghostnet_100", "hardcorenas_a", "hgnetv2_b0"),
    *(
        "efficientvit_b0",
        "efficientvit_m0",
        "mobilevit_xxs",
        "convnext_atto",
        "convnextv2_atto",
        "repvgg_a0",
        "levit_128s",
    ),
    *("vit_tiny_patch16_224", "vit_small_patch14_dinov2", "deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"),
    *(
        "swin_tiny_patch4_window7_224",
        "mixer_s32_224",
        "resmlp_12_224",
        "xcit_nano_12_p16_224",
        "eva02_tiny_patch14_224",
    ),
)

# An export takes ten seconds: one of each kind of network; all of the above were exported once by hand.
EXPORTED = ("lcnet_050", "efficientvit_b0", "convnext_atto", "vit_small_patch14_dinov2", "swin_tiny_patch4_window7_224")
